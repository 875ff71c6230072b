"""The programs in the documentation run."""

import re
import textwrap
from pathlib import Path

import trio

DOCS = Path(__file__).parent.parent.parent / "docs"


async def test_the_client_and_service_of_the_library_guide() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (DOCS / "rxrpc.md").read_text(), re.DOTALL)
    names: dict[str, object] = {"trio": trio}
    function = "async def program():\n" + textwrap.indent(program, "    ")
    exec(compile(function, str(DOCS / "rxrpc.md"), "exec"), names)
    with trio.fail_after(10):
        await names["program"]()  # type: ignore[operator]


def test_links_between_documents_lead_somewhere() -> None:
    for document in (*DOCS.glob("*.md"), DOCS.parent / "README.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
