"""The Dagster graph: assets, checks, partitions, jobs, schedules and sensors, a stage a module. The rooms do the work.

experiments, snapshots        what research starts from
runs, run_assets, reports, shards    what it makes
deployments, live, decisions, attribution, past, status    what trades
partitions, resources, jobs, live_jobs, versions, run_tags, content, tables    what they share
launch, live_launch           the same jobs from the command line
serve, forked_runs, run_launcher, event_storage, webserver, ui_guard    how it is run
"""
