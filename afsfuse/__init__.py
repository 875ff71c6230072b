"""An AFS client in user space: cells, file servers, a cache manager and a FUSE file system."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("afsfuse")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"
