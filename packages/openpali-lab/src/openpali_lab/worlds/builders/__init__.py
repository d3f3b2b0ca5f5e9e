"""Data sets built here from ordinary software packages: one file per data set, listed in ``registry``."""
