# Every target is one call of a small script, so that those without make have the same commands:
# python3 tools/bootstrap.py demo|test|check|nightly
PYTHON ?= python3

.PHONY: demo test check nightly
demo test check nightly:
	@$(PYTHON) tools/bootstrap.py $@
