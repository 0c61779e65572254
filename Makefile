# All that this needs is Python 3.10 to 3.13 with venv; GPU=1 uses an NVIDIA GPU.
PYTHON ?= python3
VENV = .venv
REQUIREMENTS = requirements$(if $(GPU),-gpu,).txt
INSTALLED = $(VENV)/installed$(if $(GPU),-gpu,)
INSTALL = $(RUN) -m pip install --quiet --disable-pip-version-check -r
RUN = $(VENV)/bin/python
SEED ?= 0
# The demos' network and training: with fewer channels some seeds learn little.
SMALL = --height 32 --width 176 --aerial_input_size 128 --width_multiplier 0.125
LEARN = --init random --keep_prob 1 --learning_rate 1e-3 --warmup_epochs 0.5 --batch_size 16 --epochs 9 --ema 0.99 --cache memory
TURNED = --rotate_pairs --flip_pairs
# Those of the miniature table, and of localisation, where larger images find more places.
NARROW = --height 56 --width 308 --aerial_input_size 128 --width_multiplier 0.0625
SHORT = --init random --keep_prob 1 --learning_rate 1e-3 --batch_size 8 --ema 0.99

.PHONY: demo demo-cvact localize-demo localize-worth localize-picture miniature-cvusa miniature-cvact tables pictures test lint \
	clean-demo trials full-size whole whole-cvact whole-table

demo: DATASET = cvusa
demo: PANORAMA = 112x616
demo-cvact: DATASET = cvact
demo-cvact: PANORAMA = 224x448
demo demo-cvact: FOLDERS = --data_dir demo/$(DATASET)/Data --model_dir demo/$(DATASET)/Model --result_dir demo/$(DATASET)/Result
demo demo-cvact: $(INSTALLED)
	@begin=$$(date +%s) && \
	$(RUN) -m toy_town --dataset $(DATASET) --train 2000 --test 200 --tile_size 256 --panorama_size $(PANORAMA) --data_dir demo/$(DATASET)/Data && \
	$(RUN) data_preparation.py --dataset $(DATASET) --data_dir demo/$(DATASET)/Data && \
	$(RUN) train_$(DATASET).py $(SMALL) $(LEARN) $(TURNED) --seed $(SEED) $(FOLDERS) && \
	$(RUN) test_$(DATASET).py --seed $(SEED) $(FOLDERS) && \
	echo "" && \
	echo "This took $$(($$(date +%s) - begin)) s. Images, network and results lie in demo/$(DATASET)." && \
	echo "For commands of your own: source $(VENV)/bin/activate"

# What bfloat16, averages, and turned and mirrored pairs do to the demo's recall (docs/training.md): ten minutes a SEED.
TRIAL = $(RUN) train_cvusa.py $(SMALL) $(LEARN) --seed $(SEED) $(FOLDERS) --run $(1) $(2) && \
	$(RUN) test_cvusa.py --seed $(SEED) $(FOLDERS) --run $(1)
trials: FOLDERS = --data_dir demo/cvusa/Data --model_dir demo/cvusa/Model --result_dir demo/cvusa/Result
trials: demo
	$(call TRIAL,bfloat16,$(TURNED) --precision bfloat16)
	$(call TRIAL,no_average,$(TURNED) --ema 0)
	$(call TRIAL,straight)
	$(RUN) recall_tables.py --result_dir demo/cvusa/Result

# A district of the toy town: panoramas of unknown heading are located on a grid of tiles cut from its orthophoto.
localize-demo: HERE = demo/localize
localize-demo: DISTRICT = $(HERE)/district
localize-demo: FOLDERS = --data_dir $(HERE)/Data --model_dir $(HERE)/Model --result_dir $(HERE)/Result
localize-demo: $(VENV)/installed-localize
	@begin=$$(date +%s) && \
	$(RUN) -m toy_town --dataset cvusa --train 6000 --test 200 --tile_size 256 --panorama_size 112x616 --offset 4 --data_dir $(HERE)/Data && \
	$(RUN) data_preparation.py --dataset cvusa --data_dir $(HERE)/Data && \
	$(RUN) train_cvusa.py $(NARROW) $(SHORT) --epochs 5 $(FOLDERS) && \
	$(RUN) -m toy_town.district $(DISTRICT) --metres 240 --panoramas 60 && \
	$(RUN) localize.py build $(HERE)/index --tiles $(DISTRICT)/orthophoto.tif --checkpoint $(HERE)/Model/CVUSA/SAFA_8/polar_1/best \
		--tile_metres 80 --tile_pixels 256 --spacing 5 && \
	$(RUN) localize.py calibrate $(HERE)/index $(DISTRICT)/calibration.csv $(DISTRICT)/elsewhere.csv --unknown_heading --wrong_share 0.1 && \
	$(RUN) localize.py query $(HERE)/index $(DISTRICT)/drive.csv --unknown_heading --sequence 10 --top 3 --html $(HERE)/drive.html && \
	$(RUN) localize.py query $(HERE)/index $(DISTRICT)/panoramas.csv --unknown_heading --geojson $(HERE)/places.geojson \
		--html $(HERE)/places.html && \
	echo "" && \
	echo "This took $$(($$(date +%s) - begin)) s. Open $(HERE)/places.html and $(HERE)/drive.html in a browser."

localize-worth: localize-demo
	$(RUN) -m docs.photo_worth demo/localize

localize-picture: localize-demo
	$(RUN) -m docs.pictures localisation demo/localize

# The paper's table in miniature, and its controls: two to three hours on two cores; a stopped one continues.
MINIATURE = --model_dir miniature/Model --result_dir miniature/Result
CONTROL = --network_type SAFA_8 --polar 1 $(MINIATURE)

miniature-cvusa: PANORAMA = 112x616
miniature-cvact: PANORAMA = 224x448
miniature-cvusa miniature-cvact: miniature-%: $(INSTALLED)
	$(RUN) -m toy_town --dataset $* --train 2500 --test 500 --tile_size 256 --panorama_size $(PANORAMA) --data_dir miniature/Data
	$(RUN) reproduce.py --dataset $* --seeds 0 1 2 $(NARROW) $(SHORT) --epochs 3 --data_dir miniature/Data $(MINIATURE)

tables: miniature-cvusa miniature-cvact
	$(RUN) -m docs.miniature shuffle miniature/Data miniature/Shuffled
	$(RUN) train_cvusa.py --run shuffled $(CONTROL) $(NARROW) $(SHORT) --epochs 3 --data_dir miniature/Shuffled
	$(RUN) test_cvusa.py --run shuffled $(CONTROL) --data_dir miniature/Shuffled
	$(RUN) train_cvusa.py --run untrained $(CONTROL) $(NARROW) --init random --learning_rate 0 --epochs 1 --data_dir miniature/Data
	$(RUN) test_cvusa.py --run untrained $(CONTROL) --data_dir miniature/Data
	$(RUN) -m docs.miniature page miniature

# The paper's network and recipe on the toy town: a day or two on two cores; a stopped one continues. INIT: VGG16's weights,
# by default those that Keras downloads.
FULL = full-size
FULL_TRAIN ?= 1500
FULL_TEST ?= 300
EPOCHS ?= 8
FULL_FLAGS ?=
FULL_FOLDERS = --data_dir $(FULL)/Data --model_dir $(FULL)/Model --result_dir $(FULL)/Result
PAPERS = $(if $(INIT),--init $(INIT)) $(FULL_FLAGS) $(FULL_FOLDERS)
BFLOAT16 = --epochs $(EPOCHS) --precision bfloat16 $(PAPERS)

full-size: $(INSTALLED)
	$(RUN) -m toy_town --dataset cvusa --train $(FULL_TRAIN) --test $(FULL_TEST) --data_dir $(FULL)/Data
	$(RUN) reproduce.py --dataset cvusa --rows SAFA_8,VGG_gp $(BFLOAT16)
	$(RUN) -m toy_town --dataset cvact --train $(FULL_TRAIN) --test $(FULL_TEST) --data_dir $(FULL)/Data
	$(RUN) reproduce.py --dataset cvact --rows SAFA_8 --polar 1 $(BFLOAT16)
	$(RUN) reproduce.py --dataset cvusa --rows SAFA_8,VGG_gp --polar 1 --seeds 1 $(BFLOAT16)
	$(RUN) train_cvusa.py --run float32 --epochs 2 --precision float32 $(PAPERS)
	$(RUN) test_cvusa.py --run float32 $(FULL_FOLDERS)
	$(RUN) -m docs.full_size $(FULL)

# As many places as the datasets have, at their sizes (CVUSA 10 GB, CVACT 24 GB), with the demos' network; finished steps are
# skipped. whole-table: the other rows of the paper's table.
WHOLE_TRAIN ?= 35532
WHOLE_TEST ?= 8884
WHOLE_EPOCHS ?= 2
WHOLE_SIZES ?=
STEP = $(RUN) -m docs.whole step whole/$(DATASET)
OF_WHOLE = --data_dir whole/$(DATASET)/Data --model_dir whole/$(DATASET)/Model --result_dir whole/$(DATASET)/Result
ONCE = $(SMALL) --init random --keep_prob 1 --learning_rate 1e-3 --warmup_epochs 0.5 --batch_size 32 --epochs $(WHOLE_EPOCHS) --ema 0.99

whole whole-table: DATASET = cvusa
whole-cvact: DATASET = cvact
whole whole-cvact: $(INSTALLED)
	$(STEP) rendering -m toy_town --dataset $(DATASET) --train $(WHOLE_TRAIN) --test $(WHOLE_TEST) $(WHOLE_SIZES) --data_dir whole/$(DATASET)/Data
	$(STEP) preparation data_preparation.py --dataset $(DATASET) --data_dir whole/$(DATASET)/Data
	$(STEP) checks check_data.py --dataset $(DATASET) --data_dir whole/$(DATASET)/Data
	$(STEP) training train_$(DATASET).py $(ONCE) $(OF_WHOLE)
	$(STEP) test test_$(DATASET).py --report --figures 20 --attention 3 $(OF_WHOLE)
	$(RUN) -m docs.whole page whole/cv*

whole-table: whole
	$(RUN) reproduce.py --dataset $(DATASET) $(ONCE) $(OF_WHOLE)
	$(RUN) -m docs.whole page whole/cv*

# The README's pictures, from the demo on CVUSA's toy town.
pictures: FOLDERS = --data_dir demo/cvusa/Data --model_dir demo/cvusa/Model --result_dir demo/cvusa/Result
pictures: override SEED = 0
pictures: demo
	$(RUN) test_cvusa.py --seed $(SEED) --figures 3 --attention 1 $(FOLDERS)
	$(RUN) -m docs.pictures demo/cvusa
	$(RUN) -m docs.architecture

test lint: $(VENV)/installed-test

test: export PYTHONDONTWRITEBYTECODE =
test:
	$(RUN) -m pytest

lint:
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

clean-demo:
	rm -rf demo

$(INSTALLED): requirements.txt $(REQUIREMENTS)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { echo \
		"$$($(PYTHON) --version 2>&1): TensorFlow needs Python 3.10 to 3.13; name one, such as: make PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) $(REQUIREMENTS)
	@touch $@

$(VENV)/installed-localize $(VENV)/installed-test: $(VENV)/installed-%: requirements-%.txt requirements-localize.txt $(INSTALLED)
	$(INSTALL) $<
	@touch $@
