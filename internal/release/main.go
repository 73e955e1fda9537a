// Release builds what people install: for each platform an archive with the
// programs, their manual pages and completions, the documents, deploy/ and a list
// of what the programs are made of (SBOM). The same commit gives the same bytes,
// wherever it is built with the same Go.
//
//	go run ./internal/release -version v1.2.3 -out dist
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// programs are those of cmd/ that are installed.
var programs = []string{"adapter", "balancer", "client", "demo", "worker"}

// platforms are those that archives are made for.
var platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"}

// documents go into each archive.
var documents = []string{"README.md", "CHANGELOG.md", "SECURITY.md", "docs", "deploy", "proto"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r := release{}
	flag.StringVar(&r.version, "version", "", "what --version says; the commit's by default")
	flag.StringVar(&r.out, "out", "dist", "directory for the archives; it must be empty or not be there")
	only := flag.String("platforms", strings.Join(platforms, ","), "which of them to build")
	flag.Parse()
	r.platforms = strings.Split(*only, ",")
	if err := r.build(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

type release struct {
	version   string
	out       string
	platforms []string
	commit    string
	date      time.Time // of the commit
	extras    string    // a directory with manual pages and completions
	biller    string    // the program that writes bills of materials
}

func (r *release) build(ctx context.Context) error {
	for _, p := range r.platforms {
		if !slices.Contains(platforms, p) {
			return fmt.Errorf("platform %q: want some of %s", p, strings.Join(platforms, ", "))
		}
	}
	if entries, err := os.ReadDir(r.out); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty: take another -out, or empty it", r.out)
	}
	if err := errors.Join(r.identify(ctx), os.MkdirAll(r.out, 0o755)); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "reparto-release-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }() // what is left there is in nobody's way
	r.extras = filepath.Join(work, "extras")
	if err := r.describe(ctx, filepath.Join(work, "here")); err != nil {
		return err
	}
	r.biller = filepath.Join(work, "cyclonedx-gomod")
	const tool = "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod"
	if _, err := output(ctx, nil, "go", "build", "-modfile=internal/tools/go.mod", "-o", r.biller, tool); err != nil {
		return err
	}
	var sums bytes.Buffer
	for _, platform := range r.platforms {
		name, err := r.platform(ctx, platform, filepath.Join(work, strings.ReplaceAll(platform, "/", "-")))
		if err != nil {
			return fmt.Errorf("%s: %w", platform, err)
		}
		raw, err := os.ReadFile(filepath.Join(r.out, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(raw), name)
		fmt.Println(name)
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), sums.Bytes(), 0o644)
}

// identify finds out what is built.
func (r *release) identify(ctx context.Context) error {
	log, err := output(ctx, nil, "git", "log", "-1", "--format=%H %cI")
	if err != nil {
		return err
	}
	commit, date, _ := strings.Cut(strings.TrimSpace(log), " ")
	if r.date, err = time.Parse(time.RFC3339, date); err != nil {
		return err
	}
	r.commit = commit
	if r.version == "" {
		r.version = "v0.0.0-" + r.date.UTC().Format("20060102150405") + "-" + commit[:12] // as Go calls such a commit
	}
	return nil
}

// compile builds all programs for a platform into a directory.
func (r *release) compile(ctx context.Context, goos, goarch, dir string) error {
	flags := "-s -w -buildid= -X reparto/internal/cli.version=" + r.version + " -X reparto/internal/cli.commit=" + r.commit
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", dir + string(filepath.Separator)}
	for _, p := range programs {
		args = append(args, "./cmd/"+p)
	}
	_, err := output(ctx, []string{"GOOS=" + goos, "GOARCH=" + goarch, "CGO_ENABLED=0", "GOFLAGS=", "GOAMD64=", "GOARM64="}, "go", args...)
	return err
}

// describe has each program write its manual pages and completions.
func (r *release) describe(ctx context.Context, here string) error {
	if err := r.compile(ctx, runtime.GOOS, runtime.GOARCH, here); err != nil {
		return err
	}
	man, completions := filepath.Join(r.extras, "man"), filepath.Join(r.extras, "completions")
	if err := errors.Join(os.MkdirAll(man, 0o755), os.MkdirAll(completions, 0o755)); err != nil {
		return err
	}
	for _, p := range programs {
		program := filepath.Join(here, p)
		if _, err := output(ctx, []string{"SOURCE_DATE_EPOCH=" + fmt.Sprint(r.date.Unix())}, program, "man", man); err != nil {
			return err
		}
		for shell, file := range map[string]string{"bash": p, "zsh": "_" + p, "fish": p + ".fish", "powershell": p + ".ps1"} {
			script, err := output(ctx, nil, program, "completion", shell)
			if err != nil {
				return err
			}
			dir := filepath.Join(completions, shell)
			if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, file), []byte(script), 0o644)); err != nil {
				return err
			}
		}
	}
	return nil
}

// platform makes the archive for one, and returns its name.
func (r *release) platform(ctx context.Context, platform, dir string) (string, error) {
	goos, goarch, _ := strings.Cut(platform, "/")
	if err := r.compile(ctx, goos, goarch, dir); err != nil {
		return "", err
	}
	name := strings.Join([]string{"reparto", r.version, goos, goarch}, "_")
	a := archive{top: name, date: r.date.UTC()}
	for _, p := range programs {
		file := p
		if goos == "windows" {
			file += ".exe"
		}
		if err := a.add(filepath.Join(dir, file), file, 0o755); err != nil {
			return "", err
		}
		bill, err := output(ctx, nil, r.biller, "bin", "-json", "-noserial", "-notimestamp", "-version", r.version, filepath.Join(dir, file))
		if err != nil {
			return "", err
		}
		a.addBytes([]byte(bill), "sbom/"+p+".cdx.json", 0o644)
	}
	if err := a.addTree(r.extras, ""); err != nil {
		return "", err
	}
	for _, d := range documents {
		if err := a.addTree(d, d); err != nil {
			return "", err
		}
	}
	if goos == "windows" {
		name += ".zip"
		return name, a.zip(filepath.Join(r.out, name))
	}
	name += ".tar.gz"
	return name, a.tar(filepath.Join(r.out, name))
}

// addTree adds a file, or all below a directory.
func (a *archive) addTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		below, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		return a.add(path, filepath.ToSlash(filepath.Join(to, below)), 0o644)
	})
}

// output runs a program and returns its standard output.
func output(ctx context.Context, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		_, _ = io.Copy(os.Stderr, &errs) // the exit code says that it failed
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return out.String(), nil
}
