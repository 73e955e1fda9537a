package auth

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// maxFile is how large a file may be, in bytes.
const maxFile = 16 << 20

// rules are what a file says. Nobody changes them.
type rules struct {
	byName   map[string]*Principal
	tokens   map[tokenHash]knownToken
	names    map[san]*Principal
	subjects map[subject]*Principal
	issuers  map[string]*issuer
}

type knownToken struct {
	principal *Principal
	expires   time.Time // zero: never
}

// subject is what a JWT says of whom.
type subject struct{ issuer, name string }

// issuer is one whose JWTs are taken.
type issuer struct {
	name, audience, claim string

	url  string // where its keys are fetched; empty: they are in the file
	keys keySet
}

// snapshot is what files held at one time, by path.
type snapshot map[string]content

// content is a file's text, or why it can't be read.
type content struct{ text, err string }

func (s snapshot) read(path string) {
	text, err := readFile(path)
	if err != nil {
		s[path] = content{err: err.Error()}
		return
	}
	s[path] = content{text: text}
}

func readFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() { // to open a pipe may block, and it is read again and again
		return "", fmt.Errorf("%s: is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s: is larger than %d bytes", path, maxFile)
	}
	return string(text), err
}

// reader makes rules of a file.
type reader struct {
	*rules
	looked snapshot       // what is not read again
	seen   snapshot       // all that was used
	lines  map[any]string // where a token, name or subject is given first
}

// read reads the file and those it names, but for what looked has: that is taken
// as it was then. What it has seen tells later whether they have changed, also
// when there are no rules in them.
func read(path string, looked snapshot) (*rules, snapshot, error) {
	r := &reader{looked: looked, seen: snapshot{}, lines: map[any]string{}, rules: &rules{
		byName: map[string]*Principal{}, tokens: map[tokenHash]knownToken{}, names: map[san]*Principal{},
		subjects: map[subject]*Principal{}, issuers: map[string]*issuer{},
	}}
	text, err := r.text(path)
	if err != nil {
		return nil, r.seen, fmt.Errorf("read who may do what: %w", err)
	}
	root, err := rootOf(path, text)
	if err != nil {
		return nil, r.seen, err
	}
	return r.rules, r.seen, r.file(root)
}

func (r *reader) text(path string) (string, error) {
	c, ok := r.looked[path]
	if !ok {
		r.seen.read(path)
		c = r.seen[path]
	}
	r.seen[path] = c
	if c.err != "" {
		return "", errors.New(c.err)
	}
	return c.text, nil
}

func (r *reader) file(root node) error {
	f, err := root.fields("principals", "issuers")
	if err != nil {
		return err
	}
	if list, ok := f["issuers"]; ok { // first: principals refer to them
		if err := each(list, r.issuer); err != nil {
			return err
		}
	}
	list, ok := f["principals"]
	if !ok {
		return root.errorf("has no principals; give at least one")
	}
	if err := each(list, r.principal); err != nil {
		return err
	}
	if len(r.byName) == 0 {
		return list.errorf("is empty; nobody could do anything")
	}
	return nil
}

func each(list node, do func(node) error) error {
	values, err := list.list()
	if err != nil {
		return err
	}
	for _, v := range values {
		if err := do(v); err != nil {
			return err
		}
	}
	return nil
}

var principalName = regexp.MustCompile(`^[A-Za-z0-9._@:/-]{1,128}$`)

func (r *reader) principal(n node) error {
	f, err := n.fields("name", "tokens", "certificates", "subjects", "submit", "work", "administer", "limits")
	if err != nil {
		return err
	}
	name, ok := f["name"]
	if !ok {
		return n.errorf("has no name")
	}
	p := &Principal{}
	if p.Name, err = name.text(); err != nil {
		return err
	}
	if !principalName.MatchString(p.Name) {
		return name.errorf("is %.140q; want 1 to 128 letters, digits and . _ @ : / -", p.Name)
	}
	if r.byName[p.Name] != nil {
		return name.errorf("is %q, as that of another principal is", p.Name)
	}
	r.byName[p.Name] = p
	readers := []struct {
		field string
		read  func(node) error
	}{
		{"tokens", func(n node) error { return each(n, func(n node) error { return r.token(p, n) }) }},
		{"certificates", func(n node) error { return each(n, func(n node) error { return r.certificate(p, n) }) }},
		{"subjects", func(n node) error { return each(n, func(n node) error { return r.subject(p, n) }) }},
		{"submit", func(n node) (err error) { p.submit, err = patterns(n); return err }},
		{"work", func(n node) (err error) { p.work, err = patterns(n); return err }},
		{"administer", func(n node) (err error) { p.administer, err = n.yes(); return err }},
		{"limits", p.Limits.read},
	}
	for _, field := range readers {
		if v, ok := f[field.field]; ok {
			if err := field.read(v); err != nil {
				return err
			}
		}
	}
	return nil
}

// once keeps what identifies a principal from doing so twice.
func (r *reader) once(n node, key any, p *Principal) error {
	if first, ok := r.lines[key]; ok {
		return n.errorf("is that of %s already; it can be given once", first)
	}
	r.lines[key] = fmt.Sprintf("%s at line %d", p.Name, n.Line)
	return nil
}

func (r *reader) token(p *Principal, n node) error {
	line, t := n, knownToken{principal: p}
	if n.mapping() {
		f, err := n.fields("hash", "expires")
		if err != nil {
			return err
		}
		var ok bool
		if line, ok = f["hash"]; !ok {
			return n.errorf("has no hash")
		}
		if when, ok := f["expires"]; ok {
			if t.expires, err = when.time(); err != nil {
				return err
			}
		}
	}
	text, err := line.text()
	if err != nil {
		return err
	}
	hash, err := parseHash(text)
	if err != nil {
		return line.errorf("is no hash of a token: %w", err)
	}
	r.tokens[hash] = t
	return r.once(line, hash, p)
}

func (r *reader) certificate(p *Principal, n node) error {
	text, err := n.text()
	if err != nil {
		return err
	}
	name, err := parseSAN(text)
	if err != nil {
		return n.errorf("is %.140q: %w", text, err)
	}
	r.names[name] = p
	return r.once(n, name, p)
}

func (r *reader) subject(p *Principal, n node) error {
	if len(r.issuers) == 0 {
		return n.errorf("needs an issuer; the file has none")
	}
	s, name := subject{}, n
	if n.mapping() {
		f, err := n.fields("issuer", "subject")
		if err != nil {
			return err
		}
		from, known := f["issuer"]
		about, given := f["subject"]
		if name = about; !known || !given {
			return n.errorf("needs both issuer and subject")
		}
		if s.issuer, err = from.text(); err != nil {
			return err
		}
		if r.issuers[s.issuer] == nil {
			return from.errorf("is %.200q, which is none of the issuers of this file", s.issuer)
		}
	} else if len(r.issuers) > 1 {
		return n.errorf("could be of any of the %d issuers; write {issuer: ..., subject: ...}", len(r.issuers))
	}
	for only := range r.issuers {
		if s.issuer == "" {
			s.issuer = only
		}
	}
	var err error
	if s.name, err = name.text(); err != nil {
		return err
	}
	r.subjects[s] = p
	return r.once(name, s, p)
}

func (r *reader) issuer(n node) error {
	f, err := n.fields("issuer", "audience", "claim", "jwks_file", "jwks_url")
	if err != nil {
		return err
	}
	i := &issuer{claim: "sub"}
	for _, field := range []struct {
		name string
		to   *string
	}{{"issuer", &i.name}, {"audience", &i.audience}, {"claim", &i.claim}} {
		v, ok := f[field.name]
		if !ok && *field.to == "" {
			return n.errorf("has no %s", field.name)
		} else if !ok {
			continue
		}
		if *field.to, err = v.text(); err != nil {
			return err
		}
	}
	if r.issuers[i.name] != nil {
		return f["issuer"].errorf("is %.200q, as that of another one is", i.name)
	}
	r.issuers[i.name] = i
	file, ok := f["jwks_file"]
	where, both := f["jwks_url"]
	switch {
	case ok && both, !ok && !both:
		return n.errorf("needs its keys from jwks_file or from jwks_url, and from one of them alone")
	case ok:
		return r.keys(i, file)
	}
	if i.url, err = where.text(); err != nil {
		return err
	}
	if err := checkKeysURL(i.url); err != nil {
		return where.errorf("%w", err)
	}
	return nil
}

func (r *reader) keys(i *issuer, n node) error {
	path, err := n.text()
	if err != nil {
		return err
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(n.file), path)
	}
	text, err := r.text(path)
	if err != nil {
		return n.errorf("can't be read: %w", err)
	}
	if i.keys, err = parseKeys([]byte(text), true); err != nil {
		return n.errorf("names %s, which %w", path, err)
	}
	return nil
}
