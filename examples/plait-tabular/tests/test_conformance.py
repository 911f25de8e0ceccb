"""Does the plugin keep Plait's contract? The whole test file of a plugin."""

from plait.testing import conformance

test_conformance = conformance("plait-tabular")
