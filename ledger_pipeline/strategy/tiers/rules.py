"""The tables of preflight: which names are pure, and which reach outside the strategy.

Whatever can be listed completely is an allow-list (builtins, numpy, the standard library): a name that is not on it
is refused, so that a new release of Python or numpy cannot open a hole. Only other installed packages, which nobody
can list, are held by deny-lists of packages and of attribute names.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Reason:
    """Why a source is not of a lower tier: `line` (from 1) in the captured text, a stable `code`, a sentence, and the
    `tier` it forces.
    """

    line: int
    code: str
    message: str
    tier: int


PURE_BUILTINS = frozenset(
    """
abs all any ascii bin bool bytearray bytes callable chr complex dict divmod enumerate filter float format
frozenset hex int isinstance issubclass iter len list map max min next oct ord pow print range repr reversed round
set slice sorted str sum tuple zip Ellipsis NotImplemented ArithmeticError AssertionError AttributeError
Exception FloatingPointError IndexError KeyError LookupError NotImplementedError OverflowError RuntimeError
StopIteration TypeError ValueError ZeroDivisionError
""".split()
)

# Why a builtin that exists is refused; the others get the general sentence.
REFUSED_BUILTINS = {
    **dict.fromkeys(("eval", "exec", "compile"), ("dynamic-code", "runs code that the syntax tree does not show")),
    "__import__": ("dynamic-code", "imports by a computed name; write a plain import"),
    **dict.fromkeys(
        ("getattr", "setattr", "delattr", "hasattr", "vars", "globals", "locals", "dir"),
        ("dynamic-code", "reaches attributes by a computed name; write the attribute out"),
    ),
    **dict.fromkeys(
        ("type", "object", "super", "property", "classmethod", "staticmethod", "memoryview"),
        ("dynamic-code", "reaches the object model, from where anything can be reached"),
    ),
    **dict.fromkeys(("id", "hash"), ("address", "depends on memory addresses or on the hash seed of the process")),
    **dict.fromkeys(("open", "input", "breakpoint", "help"), ("outside", "reads or writes outside the strategy")),
}

# The text of these attributes of ctx holds an address.
CONTEXT_METHODS = frozenset(
    "rng open high low close volume feature position history flat hold targets weights feature_values".split()
)

# Builtins that read their argument and keep no reference to it (sorted, list, ... make a shallow copy).
READ_ONLY_BUILTINS = frozenset({"len", "isinstance", "bool", "any", "all", "str", "repr", "format", "callable"})
SHALLOW_BUILTINS = frozenset(
    "sorted list tuple dict set frozenset sum min max enumerate zip reversed map filter iter range".split()
)

MUTATORS = frozenset(
    """
append extend insert remove pop clear sort reverse add discard update setdefault popitem intersection_update
difference_update symmetric_difference_update appendleft extendleft popleft rotate subtract move_to_end fill
put itemset partition resize setfield setflags byteswap
""".split()
)

# Functions that change their first argument in place, by dotted name.
MUTATING_FUNCTIONS = frozenset(
    """
heapq.heapify heapq.heappop heapq.heappush heapq.heappushpop heapq.heapreplace bisect.insort
bisect.insort_left bisect.insort_right
""".split()
)

SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})
SET_SAFE_METHODS = SET_METHODS | frozenset(
    """
add discard remove update clear issubset issuperset isdisjoint intersection_update difference_update
symmetric_difference_update
""".split()
)
SET_SAFE_BUILTINS = frozenset({"len", "sorted", "min", "max", "any", "all", "bool", "set", "frozenset", "isinstance"})

# Attributes that are refused on any object, because the object cannot be known from the text.
REFUSED_ATTRIBUTES: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        """
        to_csv to_parquet to_pickle to_excel to_hdf to_sql to_feather to_json to_html to_latex to_markdown
        to_clipboard to_stata to_orc to_xml to_gbq to_iceberg to_string to_file tofile dump savefig read_text
        write_text read_bytes write_bytes plot boxplot info
        """.split(),
        ("outside", "reads or writes outside the strategy"),
    ),
    **dict.fromkeys(("today", "utcnow"), ("clock", "reads the clock; the time of the pulse is ctx.now")),
    **dict.fromkeys(("eval", "query"), ("dynamic-code", "runs code from a string; write the expression out")),
    **dict.fromkeys(
        """
        mro gi_frame gi_code gi_yieldfrom cr_frame cr_code cr_await cr_origin ag_frame ag_code ag_await f_back
        f_builtins f_code f_globals f_locals f_trace tb_frame tb_next tb_lasti co_code co_consts co_names
        func_globals func_code with_traceback
        """.split(),
        ("dynamic-code", "reaches the interpreter, from where anything can be reached"),
    ),
    **dict.fromkeys(
        ("setflags", "ctypes", "base"), ("dynamic-code", "reaches the memory below an array, which may be shared")
    ),
    "samples": ("randomness", "draws from an unseeded generator; use ctx.rng"),
}
REFUSED_PREFIXES: dict[str, tuple[str, str]] = {
    "read_": ("outside", "reads a file or a network address; let a snapshot or params bring the data"),
    "register_": ("shared-state", "changes a registry that outlives the pulse"),
}
# Drawing methods that are pure when the generator is given.
SEEDED_BY_KEYWORD = frozenset({"sample", "rvs"})
DISPATCHERS = frozenset({"agg", "aggregate", "apply", "transform", "pipe", "map"})

STDLIB: dict[str, frozenset[str] | None] = {  # None: every public name is pure
    "math": None,
    "cmath": None,
    "itertools": None,
    "statistics": frozenset(
        """
        mean fmean geometric_mean harmonic_mean median median_low median_high median_grouped mode multimode pstdev
        pvariance stdev variance quantiles covariance correlation linear_regression NormalDist StatisticsError
        """.split()
    ),
    "functools": frozenset({"reduce", "partial", "cmp_to_key"}),
    "collections": frozenset({"Counter", "defaultdict", "deque", "OrderedDict", "namedtuple", "ChainMap", "abc"}),
    "collections.abc": None,
    "dataclasses": frozenset({"dataclass", "replace", "asdict", "astuple", "field", "fields"}),
    "enum": frozenset({"Enum", "IntEnum", "StrEnum"}),
    "decimal": frozenset(
        """Decimal ROUND_CEILING ROUND_DOWN ROUND_FLOOR ROUND_HALF_DOWN ROUND_HALF_EVEN ROUND_HALF_UP ROUND_UP
        ROUND_05UP InvalidOperation DivisionByZero""".split()
    ),
    "fractions": frozenset({"Fraction"}),
    "operator": frozenset(
        """
        itemgetter add sub mul truediv floordiv mod neg pos abs lt le eq ne ge gt not_ and_ or_ xor pow getitem
        contains concat countOf indexOf truth
        """.split()
    ),
    "typing": frozenset(
        """
        Any Callable Dict Final FrozenSet Generator Iterable Iterator List Literal Mapping NamedTuple Optional
        Sequence Set Tuple Type TypeAlias TypedDict TypeVar Union cast
        """.split()
    ),
    "bisect": frozenset({"bisect", "bisect_left", "bisect_right", "insort", "insort_left", "insort_right"}),
    "heapq": frozenset("heapify heappop heappush heappushpop heapreplace nlargest nsmallest merge".split()),
    "datetime": frozenset({"date", "datetime", "time", "timedelta", "timezone", "UTC", "MINYEAR", "MAXYEAR"}),
    "calendar": frozenset({"monthrange", "isleap", "leapdays", "weekday"}),
    "copy": frozenset({"copy", "deepcopy"}),
    "json": frozenset({"loads", "dumps"}),
    "__future__": None,
}

# Modules whose purpose is known, so that the reason can say it; the rest of the standard library gets a general one.
_CLOCK = ("clock", "reads the clock; the time of the pulse is ctx.now")
_RANDOM = ("randomness", "is not seeded by the run; use ctx.rng")
_OUTSIDE = ("outside", "reaches files, the network or processes")
_DYNAMIC = ("dynamic-code", "reaches the interpreter, from where anything can be reached")
REFUSED_MODULES: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("time", "sched", "timeit", "exchange_calendars"), _CLOCK),
    **dict.fromkeys(("random", "secrets", "uuid"), _RANDOM),
    **dict.fromkeys(
        """
        os posix nt sys io pathlib shutil tempfile glob fileinput pickle marshal shelve dbm sqlite3 csv zipfile
        tarfile gzip bz2 lzma configparser logging subprocess multiprocessing threading concurrent asyncio queue
        socket socketserver ssl select selectors http urllib ftplib smtplib imaplib poplib telnetlib nntplib xmlrpc
        webbrowser email getpass getopt argparse platform locale signal mmap fcntl resource pty tty curses readline
        syslog pwd grp requests httpx aiohttp urllib3 httpcore websocket websockets sseclient grpc paramiko boto3
        botocore s3fs gcsfs fsspec upath pathlib_abc smart_open sqlalchemy duckdb psycopg2 psycopg pymongo redis
        peewee playhouse alpaca alpaca_trade_api yfinance ccxt ib_insync pandas_datareader pyarrow tables h5py zarr
        xlrd openpyxl joblib cloudpickle dill dask distributed ray psutil watchdog watchfiles dotenv rich click tqdm
        typer structlog loguru matplotlib pylab seaborn plotly bokeh IPython ipykernel playwright selenium uvicorn
        starlette fastapi flask dagster dagster_duckdb dagster_webserver jinja2 PIL
        """.split(),
        _OUTSIDE,
    ),
    **dict.fromkeys(
        """
        builtins importlib imp pkgutil runpy code codeop ast dis inspect types gc weakref ctypes cffi traceback
        tracemalloc faulthandler atexit contextvars symtable tokenize site sysconfig pdb bdb cProfile profile trace
        unittest doctest numba llvmlite pip setuptools pkg_resources cython yaml greenlet
        """.split(),
        _DYNAMIC,
    ),
    "ledger_pipeline": ("outside", "is the product itself; a strategy sees it through ctx (its types may be named)"),
}
PRODUCT_TYPES = frozenset({"strategy", "context", "targets", "Context", "Targets", "History"})  # for annotations
PRODUCT_FUNCTIONS = frozenset({"ledger_pipeline.trading.dca.targets_of"})  # pure: they see what ctx and params hold
# Names below an installed package that are such modules, or packages of downloads.
_ORDINARY_WORDS = frozenset({"time", "code", "types", "trace", "profile", "queue", "select", "click"})
REFUSED_PARTS = (frozenset(REFUSED_MODULES) - _ORDINARY_WORDS) | frozenset(
    """
    datasets io testing core compat ExcelWriter ExcelFile HDFStore set_option reset_option get_option option_context
    describe_option options show_versions test plotting extensions
    """.split()
)

# numpy: the functions of its own namespace that are pure. Missing on purpose: files (load, save, memmap, ...),
# uninitialised memory (empty), process-wide settings (seterr, set_printoptions, ...), shared tables (typecodes,
# sctypeDict), callers' frames (bmat).
NUMPY = frozenset(
    """
False_ True_ abs absolute acos acosh add all allclose amax amin angle any append apply_along_axis apply_over_axes
arange arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin argpartition argsort argwhere around array
array_equal array_equiv array_split asanyarray asarray asarray_chkfinite ascontiguousarray asfortranarray asin asinh
astype atan atan2 atanh atleast_1d atleast_2d atleast_3d average bartlett base_repr binary_repr bincount bitwise_and
bitwise_count bitwise_invert bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor blackman block
bool bool_ broadcast_arrays broadcast_shapes broadcast_to  byte bytes_ c_ can_cast cbrt
cdouble ceil character choose clip clongdouble column_stack common_type complex128 complex256 complex64
complexfloating compress concat concatenate conj conjugate convolve copy copysign copyto corrcoef correlate cos cosh
count_nonzero cov cross csingle cumprod cumsum cumulative_prod cumulative_sum datetime64 deg2rad degrees delete diag
diag_indices diag_indices_from diagflat diagonal diff digitize divide divmod dot double dsplit dstack dtype e ediff1d
einsum einsum_path equal errstate euler_gamma exp exp2 expand_dims expm1 extract eye fabs fill_diagonal finfo fix
flatnonzero flexible flip fliplr flipud float128 float16 float32 float64 float_power floating floor floor_divide fmax
fmin fmod format_float_positional format_float_scientific frexp fromfunction fromiter frompyfunc fromstring full
full_like gcd generic geomspace gradient greater greater_equal half hamming hanning heaviside histogram histogram2d
histogram_bin_edges histogramdd hsplit hstack hypot i0 identity iinfo imag index_exp indices inexact inf inner insert
int16 int32 int64 int8 int_ intc integer interp intersect1d intp invert isclose iscomplex iscomplexobj
isdtype isfinite isfortran isin isinf isnan isnat isneginf isposinf isreal isrealobj isscalar issubdtype iterable ix_
kaiser kron lcm ldexp left_shift less less_equal lexsort linspace little_endian log log10 log1p log2 logaddexp
logaddexp2 logical_and logical_not logical_or logical_xor logspace long longdouble longlong mask_indices matmul
matrix_transpose matvec max maximum mean median meshgrid mgrid min min_scalar_type minimum mod modf moveaxis multiply
nan nan_to_num nanargmax nanargmin nancumprod nancumsum nanmax nanmean nanmedian nanmin nanpercentile nanprod
nanquantile nanstd nansum nanvar ndarray ndenumerate ndim ndindex negative newaxis nextafter nonzero not_equal number
ogrid ones ones_like outer packbits pad partition percentile permute_dims pi piecewise place poly poly1d polyadd
polyder polydiv polyfit polyint polymul polysub polyval positive pow power prod promote_types ptp put put_along_axis
putmask quantile r_ rad2deg radians ravel ravel_multi_index real real_if_close reciprocal remainder repeat reshape
resize result_type right_shift rint roll rollaxis roots rot90 round row_stack s_ searchsorted select setdiff1d
setxor1d shape short sign signbit signedinteger sin sinc single sinh size sort sort_complex spacing split sqrt square
squeeze stack std str_ subtract sum swapaxes take take_along_axis tan tanh tensordot tile timedelta64 trace transpose
trapezoid tri tril tril_indices tril_indices_from trim_zeros triu triu_indices triu_indices_from true_divide trunc
ubyte uint uint16 uint32 uint64 uint8 uintc uintp ulong ulonglong union1d unique unique_all unique_counts
unique_inverse unique_values unpackbits unravel_index unsignedinteger unstack unwrap ushort vander var vdot vecdot
vecmat vectorize vsplit vstack where zeros zeros_like
""".split()
)
NUMPY_NAMESPACES = {  # namespace -> its allowed names
    "linalg": frozenset(
        """
        LinAlgError cholesky cond cross det diagonal eig eigh eigvals eigvalsh inv lstsq matmul matrix_norm
        matrix_power matrix_rank matrix_transpose multi_dot norm outer pinv qr slogdet solve svd svdvals tensordot
        tensorinv tensorsolve trace vecdot vector_norm
        """.split()
    ),
    "fft": frozenset(
        """
        fft fft2 fftfreq fftn fftshift hfft ifft ifft2 ifftn ifftshift ihfft irfft irfft2 irfftn rfft rfft2
        rfftfreq rfftn
        """.split()
    ),
    "random": frozenset({"default_rng"}),
    "lib": frozenset({"stride_tricks"}),
}
NUMPY_REFUSED: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("empty", "empty_like"), ("uninitialised", "holds whatever was in memory; use np.zeros or np.full")
    ),
    **dict.fromkeys(
        """
        load save savez savez_compressed loadtxt savetxt genfromtxt fromfile fromregex memmap ctypeslib get_include
        f2py show_config show_runtime info DataSource
        """.split(),
        ("outside", "reads or writes outside the strategy"),
    ),
    **dict.fromkeys(
        """
        seterr seterrcall geterr geterrcall setbufsize getbufsize set_printoptions get_printoptions printoptions
        typecodes sctypeDict
        """.split(),
        ("shared-state", "is a setting of the whole process that outlives the pulse"),
    ),
    **dict.fromkeys(("bmat", "test", "testing"), ("dynamic-code", "reaches the interpreter")),
}
