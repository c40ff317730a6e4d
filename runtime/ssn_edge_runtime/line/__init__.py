"""The guarded line: an authority that owns every verdict, over workers that it may kill."""
