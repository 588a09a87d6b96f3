"""`riverrank serve`: slates, lists and records by HTTP, over the Redis that the job writes to and the topics it reads.

To extend it: an operation is an `Operation` (`routing.py`) in `operations.OPERATIONS`; a page is a route that
`app.application(config, pages=...)` asks for with its `Backend` (`backend.py`), which has all there is to show.
"""
