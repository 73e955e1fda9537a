package main

import (
	"archive/tar"
	"archive/zip"
	"cmp"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"slices"
	"time"
)

// archive is what goes into an archive, in whichever order. It is written in the
// order of names, with one date and no owner.
type archive struct {
	top   string // the directory that all is in
	date  time.Time
	files []file
}

type file struct {
	name string
	mode os.FileMode
	data []byte
}

func (a *archive) add(path, name string, mode os.FileMode) error {
	data, err := os.ReadFile(path)
	if err == nil {
		a.addBytes(data, name, mode)
	}
	return err
}

func (a *archive) addBytes(data []byte, name string, mode os.FileMode) {
	a.files = append(a.files, file{a.top + "/" + name, mode, data})
}

func (a *archive) sorted() []file {
	slices.SortFunc(a.files, func(x, y file) int { return cmp.Compare(x.name, y.name) })
	return a.files
}

func (a *archive) tar(path string) error {
	return write(path, func(w io.Writer) error {
		z := gzip.NewWriter(w)
		t := tar.NewWriter(z)
		for _, f := range a.sorted() {
			h := &tar.Header{Name: f.name, Mode: int64(f.mode), Size: int64(len(f.data)), ModTime: a.date, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
			if err := t.WriteHeader(h); err != nil {
				return err
			}
			if _, err := t.Write(f.data); err != nil {
				return err
			}
		}
		return errors.Join(t.Close(), z.Close())
	})
}

func (a *archive) zip(path string) error {
	return write(path, func(w io.Writer) error {
		z := zip.NewWriter(w)
		for _, f := range a.sorted() {
			h := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: a.date}
			h.SetMode(f.mode)
			to, err := z.CreateHeader(h)
			if err != nil {
				return err
			}
			if _, err := to.Write(f.data); err != nil {
				return err
			}
		}
		return z.Close()
	})
}

func write(path string, do func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(do(f), f.Close())
}
