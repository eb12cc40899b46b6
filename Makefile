# SPDX-License-Identifier: Apache-2.0
# Everything a user or a developer runs; what each tier of tests runs stands in noxfile.py.

# Of the tiers in noxfile.py, those to run; by default all.
TIERS =
CHECK = .venv/bin/python -m tools.tiers
PLAYBOOK = ANSIBLE_ROLES_PATH=roles ANSIBLE_LOCALHOST_WARNING=false \
	ANSIBLE_DISPLAY_SKIPPED_HOSTS=false ANSIBLE_CALLBACK_RESULT_FORMAT=yaml \
	.venv/bin/ansible-playbook --inventory localhost, --connection local

.PHONY: help run stop venv test bench soak lint docs locks clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 16

run: venv ## Start a registry here, push an image to it, pull it back
	@$(PLAYBOOK) playbooks/run.yml playbooks/demo.yml

stop: venv ## Stop that registry
	@$(PLAYBOOK) playbooks/stop.yml

venv: .venv/.made ## Make .venv/bin/buildset-registry from this checkout

.venv/.made: requirements/venv.txt registry/pyproject.toml tools/make-venv
	@tools/make-venv

test: venv ## Run every tier of tests, or some: make test TIERS="lint types"
	@tools/ensure-packages test
	@$(CHECK) $(TIERS)

soak: venv ## Run the tests that take long
	@tools/ensure-packages test
	@$(CHECK) soak

bench: venv ## Measure side by side with other registries: make bench ARGS="--size 64MiB"
	@tools/ensure-packages bench
	@.venv/bin/nox --session bench -- $(ARGS)

lint: venv ## Check style, types and layers
	@$(CHECK) lint types architecture

docs: venv ## Build the documentation into build/docs
	@$(CHECK) documentation
	@echo "Open build/docs/index.html"

locks: venv ## Take newer versions of what the workshop uses into requirements/
	@tools/lock

clean: ## Remove what make made
	rm -rf .venv .nox build
