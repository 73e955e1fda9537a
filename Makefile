.PHONY: help check test generate lint bench bench-peers demo release

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

bench-peers: ## next to gearmand, NATS and RabbitMQ, into docs/ (ARGS='-install' installs them, '-parts all' takes long)
	cd internal/bench/peers && go run . -write $(ARGS)

release: ## archives for all platforms into dist/ (VERSION=v1.2.3)
	go run ./internal/release -version '$(VERSION)' -out dist

demo: ## all of it in one process
	go run ./cmd/demo
