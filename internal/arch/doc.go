// Package arch holds the import rules of the project as a test: who may know
// whom, and why. docs/architecture.md is the picture of it.
package arch
