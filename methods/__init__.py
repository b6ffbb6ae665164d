"""Search methods. Each is a package with a `method` attribute; see CONTRIBUTING.md."""
