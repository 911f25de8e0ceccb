"""Does the plugin keep Plait's contract? Every check, on every task with every model."""

from plait.testing import conformance

test_conformance = conformance("plait-sprout")
