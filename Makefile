# `make demo` and `make test` need nothing but Python 3.11 with venv.
PYTHON ?= python3
VENV = .venv
RUN = $(VENV)/bin/python
SMALL = --height 56 --width 308 --width_multiplier 0.125
LEARN = --init random --keep_prob 1 --learning_rate 1e-3 --batch_size 16 --epochs 6

.PHONY: demo demo-cvact test clean-demo

demo: DATASET = cvusa
demo: PANORAMA = 112x616
demo-cvact: DATASET = cvact
demo-cvact: PANORAMA = 224x448
demo demo-cvact: FOLDERS = --data_dir demo/$(DATASET)/Data --model_dir demo/$(DATASET)/Model --result_dir demo/$(DATASET)/Result
demo demo-cvact: $(VENV)/installed
	@begin=$$(date +%s) && \
	$(RUN) toy_world.py --dataset $(DATASET) --train 1500 --test 200 --aerial_size 256 --panorama_size $(PANORAMA) --data_dir demo/$(DATASET)/Data && \
	$(RUN) data_preparation.py --dataset $(DATASET) --data_dir demo/$(DATASET)/Data && \
	$(RUN) train_$(DATASET).py $(SMALL) $(LEARN) $(FOLDERS) && \
	$(RUN) test_$(DATASET).py $(FOLDERS) && \
	echo "" && \
	echo "This took $$(($$(date +%s) - begin)) s. Images, network and results lie in demo/$(DATASET)."

test: $(VENV)/installed
	$(RUN) -m pytest

clean-demo:
	rm -rf demo

$(VENV)/installed: requirements.txt requirements-test.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-test.txt
	touch $@
