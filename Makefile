.PHONY: demo test

# Installs the tool, shows its findings on the example project, and mends a copy of it.
demo:
	scripts/demo

test:
	scripts/test
