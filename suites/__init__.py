"""Task suites. Each is a package with a `suite` attribute; see CONTRIBUTING.md."""
