"""`ssn-edge page`: who may do what on a line's live page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssn_edge.cli.console import reporting
from ssn_edge.cli.options import JsonOption

app = typer.Typer(no_args_is_help=True, help="Who may do what on the live page of a line.")

TokensOption = Annotated[Path, typer.Option(help="The file that ssn-edge run --page-tokens reads.")]
NameOption = Annotated[str, typer.Option(help="Whose token it is; stands in the log.")]
_DEFAULT = Path("page-tokens.json")


@app.command()
def token(
    context: typer.Context,
    name: NameOption,
    role: Annotated[str, typer.Option(help="viewer, operator or engineer.")] = "operator",
    tokens: TokensOption = _DEFAULT,
) -> None:
    """Make a token for one person, and print it once; the file keeps its hash alone.

    Example: ssn-edge page token --role operator --name anna
    """
    with reporting(context) as out:
        from ssn_edge_runtime.outlets.page.roles import new_token, parse_role

        text = new_token(tokens, name, parse_role(role))
        typer.echo(text)
        out.say(f"{tokens}: {name} is {role}; give the token to {name} now, it is kept nowhere")


@app.command()
def revoke(context: typer.Context, name: NameOption, tokens: TokensOption = _DEFAULT) -> None:
    """Take a token back; a page that runs logs its owner out at once.

    Example: ssn-edge page revoke --name anna
    """
    with reporting(context) as out:
        from ssn_edge_runtime.outlets.page.roles import revoke_token

        revoke_token(tokens, name)
        out.say(f"{tokens}: {name} has no token any more")


@app.command("list")
def list_(
    context: typer.Context, tokens: TokensOption = _DEFAULT, as_json: JsonOption = False
) -> None:
    """Whose tokens a file holds.

    Example: ssn-edge page list --tokens page-tokens.json
    """
    with reporting(context) as out:
        from ssn_edge_runtime.outlets.page.roles import read_tokens

        held = read_tokens(tokens)
        document = {
            "tokens": [
                {"name": each.name, "role": str(each.role), "made_at": each.made_at}
                for each in held
            ]
        }
        lines = [f"{each.name}: {each.role}, made {each.made_at}" for each in held]
        out.result(document, lines or ["no tokens"], as_json=as_json)
