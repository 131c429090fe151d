#!/usr/bin/env bash
# Formatting, vet and staticcheck of both modules, then the room table and the size limits.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_go

unformatted=$(gofmt -l .)
[[ -z $unformatted ]] || fail "not formatted, run 'make fmt':
$unformatted"

for module in . benchmarks; do
	[[ -n $(go -C "$module" list ./... 2>/dev/null) ]] || continue
	echo "vet and staticcheck: $module"
	go -C "$module" vet ./...
	(cd "$module" && go run "$STATICCHECK" ./...)
	go -C "$module" mod tidy -diff || fail "$module/go.mod is not tidy: go mod tidy"
done
go test -count=1 ./internal/imports
