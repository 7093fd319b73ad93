# Every target is one call of a small script, so that those without make have the same commands:
# python3 tools/bootstrap.py demo|test|test-endurance|test-conformance|test-browser|test-heavy|check|nightly|compare
PYTHON ?= python3

.PHONY: demo test test-endurance test-conformance test-browser test-heavy check nightly compare
demo test test-endurance test-conformance test-browser test-heavy check nightly compare:
	@$(PYTHON) tools/bootstrap.py $@
