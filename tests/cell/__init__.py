"""How a cell behaves: one suite, asked of the cell in one process and of OpenAFS's servers."""
