.PHONY: docs clean-docs

docs:  ## the site, in docs/_build/html; every warning is an error
	sphinx-build -b html -W --keep-going docs docs/_build/html
	@echo "open docs/_build/html/index.html"

clean-docs:
	rm -rf docs/_build docs/examples docs/api/generated docs/api/backreferences
