"""Short scripts, one a task: `python -m apps` lists them."""
