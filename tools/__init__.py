"""What `make check` and `make docs` run besides the usual linters. Never imported by the package."""
