.PHONY: help check test generate lint bench demo

help: ## show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

check: ## everything that CI runs
	.ci/run

test: ## the tests
	go test ./...

generate: ## write gen/ from proto/
	go tool -modfile=internal/tools/go.mod buf generate

lint: ## vet, staticcheck, buf lint
	go vet ./...
	go tool -modfile=internal/tools/go.mod staticcheck $$(go list ./... | grep -v /gen/)
	go tool -modfile=internal/tools/go.mod buf lint

bench: ## the benchmarks
	go test -run '^$$' -bench . ./...

demo: ## all of it in one process
	go run ./cmd/demo
