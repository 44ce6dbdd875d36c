"""The broker's record and the book's.

ingest activities               what the broker did, once in the book
reconcile readings differences  the two records beside each other
breaks                          where they differ, and what to do
adopt override                  what a named person decides: how a book begins, and how a break is answered
"""
