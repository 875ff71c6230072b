"""Manual pages and completions, made of the same declarations as `--help`.

`python -m afsfuse.manual FOLDER` writes `FOLDER/man` and `FOLDER/completions`. `parsers.py` has
the whole command line, `pages.py` makes pages of it and of `config.OPTIONS`, `completions.py`
scripts for shells. `shtab` is needed here only, when the program is built.
"""
