# `make demo` and `make test` need nothing but Python 3.10 to 3.13 with venv; GPU=1 uses an NVIDIA GPU.
PYTHON ?= python3
VENV = .venv
REQUIREMENTS = requirements$(if $(GPU),-gpu,).txt
INSTALLED = $(VENV)/installed$(if $(GPU),-gpu,)
RUN = $(VENV)/bin/python
SMALL = --height 56 --width 308 --width_multiplier 0.125
LEARN = --init random --keep_prob 1 --learning_rate 1e-3 --batch_size 16 --epochs 6

.PHONY: demo demo-cvact test lint clean-demo

demo: DATASET = cvusa
demo: PANORAMA = 112x616
demo-cvact: DATASET = cvact
demo-cvact: PANORAMA = 224x448
demo demo-cvact: FOLDERS = --data_dir demo/$(DATASET)/Data --model_dir demo/$(DATASET)/Model --result_dir demo/$(DATASET)/Result
demo demo-cvact: $(INSTALLED)
	@begin=$$(date +%s) && \
	$(RUN) -m toy_town --dataset $(DATASET) --train 1500 --test 200 --tile_size 256 --panorama_size $(PANORAMA) --data_dir demo/$(DATASET)/Data && \
	$(RUN) data_preparation.py --dataset $(DATASET) --data_dir demo/$(DATASET)/Data && \
	$(RUN) train_$(DATASET).py $(SMALL) $(LEARN) $(FOLDERS) && \
	$(RUN) test_$(DATASET).py $(FOLDERS) && \
	echo "" && \
	echo "This took $$(($$(date +%s) - begin)) s. Images, network and results lie in demo/$(DATASET)."

test: $(INSTALLED)
	$(RUN) -m pytest

lint: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

clean-demo:
	rm -rf demo

$(INSTALLED): requirements.txt $(REQUIREMENTS) requirements-test.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { echo \
		"$$($(PYTHON) --version 2>&1): TensorFlow needs Python 3.10 to 3.13; name one, such as: make PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r $(REQUIREMENTS) -r requirements-test.txt
	touch $@
