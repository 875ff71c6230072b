"""An AFS client in user space: cells, file servers, a cache manager and a FUSE file system."""


def version() -> str:
    """The version that is installed; looked up when asked for, since that takes a while."""
    from importlib import metadata

    try:
        return metadata.version("afsfuse")
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return "0+unknown"
