"""The parts of the HTML page: its template, its style and its scripts."""
