"""What `pyproject.toml` cannot say: one module in C, which may be missing."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "rxrpc.security._fcrypt",
            ["rxrpc/security/_fcrypt.c"],
            extra_compile_args=["-O3"],
            optional=True,  # without a compiler its twin in Python does the work
        )
    ]
)
