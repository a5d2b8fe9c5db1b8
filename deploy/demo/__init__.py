"""The demo: simulated people use a real model, and the loop makes it better while one watches."""


def run() -> int:
    """Run the demo; returns its exit status. See `deploy.demo.command`."""
    from deploy.demo.command import demo  # the criteria of this package are imported where none of that is wanted

    return demo()
