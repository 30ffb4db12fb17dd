"""Serve the emulator: `python -m ctxhost_recall.emulator --port 8899 --webhook-url http://127.0.0.1:8787/…`."""

import anyio
import click

from ctxhost_recall.emulator import STORIES, Emulator, serve


@click.command()
@click.option("--port", default=8899, show_default=True)
@click.option("--api-key", default="emulator-key", show_default=True)
@click.option("--webhook-url", default="", help="Where webhooks go; without it none are sent.")
@click.option("--story", default="happy", show_default=True, type=click.Choice(sorted(STORIES)))
def main(port: int, api_key: str, webhook_url: str, story: str) -> None:
    """Serve an emulated Recall on this machine until it is interrupted."""
    emulator = Emulator(api_key=api_key, webhook_url=webhook_url)
    emulator.world.story = STORIES[story]

    async def run() -> None:
        async with serve(emulator.app, port=port) as url:
            click.echo(f"export MEETINGS_BASE_URL={url}")
            click.echo(f"export MEETINGS_API_KEY={api_key}")
            click.echo(f"export MEETINGS_WEBHOOK_SECRET={emulator.webhook_secret}")
            await emulator.run()

    anyio.run(run)


if __name__ == "__main__":
    main()
