package main

import (
	"slices"
	"strings"
	"time"

	"charm.land/bubbles/v2/table"
	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
)

// action is something to do about a function or a worker.
type action struct{ verb, name string }

// The messages of the view.
type (
	looked struct { // a look at the balancer came back
		picture *picture
		err     error
	}
	acted struct { // an action was carried out
		said string
		err  error
	}
	due struct{} // it is time for the next look
)

// side is one of the two tables.
type side struct {
	columns []column
	table   table.Model
	rows    []row // as shown, in order
	sort    int
	reverse bool
}

// topModel is the live view: what is known, and what the person does with it.
type topModel struct {
	target   string
	interval time.Duration
	look     func() (*picture, error)
	act      func(action) (string, error)

	now, before *picture
	failed      error     // why the last look failed; nil when it did not
	finished    []float64 // tasks a second, of the last looks
	sides       [2]side
	focus       int
	filter      string
	filtering   bool
	asking      *action
	said        string
	help        bool
	width       int
	height      int
}

// Smaller than this, nothing sensible can be shown.
const (
	leastWidth, leastHeight = 80, 24
	lookBack                = 60
)

func newTopModel(target string, interval time.Duration) *topModel {
	t := &topModel{target: target, interval: interval}
	for i, columns := range [][]column{functionColumns, workerColumns} {
		styles := table.DefaultStyles()
		styles.Cell, styles.Header = lipgloss.NewStyle().PaddingRight(1), lipgloss.NewStyle().Bold(true).PaddingRight(1)
		s := side{columns: columns, table: table.New(table.WithStyles(styles))}
		t.sides[i] = s
	}
	t.sides[0].table.Focus()
	return t
}

// Init and the two below implement tea.Model.
func (t *topModel) Init() tea.Cmd { return t.lookNow() }

func (t *topModel) lookNow() tea.Cmd {
	return func() tea.Msg {
		p, err := t.look()
		return looked{p, err}
	}
}

func (t *topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		t.width, t.height = msg.Width, msg.Height
		t.arrange()
	case looked:
		t.failed = msg.err
		if msg.err == nil {
			t.take(msg.picture)
		}
		return t, tea.Tick(t.interval, func(time.Time) tea.Msg { return due{} })
	case due:
		return t, t.lookNow()
	case acted:
		if t.said = msg.said; msg.err != nil {
			t.said = "could not: " + clean(plain(msg.err).Error())
		}
	case tea.KeyPressMsg:
		return t, t.key(msg)
	}
	return t, nil
}

// take shows a new picture.
func (t *topModel) take(p *picture) {
	t.before, t.now = t.now, p
	rate := 0.0
	for _, f := range p.functions {
		rate += f.GetFinishedPerSecond()
	}
	t.finished = append(t.finished, rate)
	t.finished = t.finished[max(len(t.finished)-lookBack, 0):]
	t.arrange()
}

// arrange puts rows and columns into the tables, as large as the window allows. What
// is selected stays selected.
func (t *topModel) arrange() {
	if t.now == nil || t.width == 0 {
		return
	}
	all := [2][]row{functionRows(t.now), workerRows(t.now, t.before)}
	room := max(t.height-8, 6)
	heights := [2]int{max(min(len(all[0])+1, room-min(len(all[1])+1, room/2)), 3), 0}
	heights[1] = max(room-heights[0], 3)
	for i := range t.sides {
		s := &t.sides[i]
		selected, was := "", s.table.Cursor()
		if was >= 0 && was < len(s.rows) {
			selected = s.rows[was].name
		}
		s.rows = slices.DeleteFunc(all[i], func(r row) bool { return !strings.Contains(r.name, t.filter) })
		slices.SortFunc(s.rows, order(s.columns[s.sort], s.sort, s.reverse))
		s.show(t.width, heights[i])
		at := slices.IndexFunc(s.rows, func(r row) bool { return r.name == selected })
		if at < 0 {
			at = max(was, 0)
		}
		s.table.SetCursor(at)
	}
}

// show gives a table the columns that fit, and its rows.
func (s *side) show(width, height int) {
	var columns []table.Column
	used := 0
	for i, c := range s.columns {
		if used += c.width + 1; used > width {
			break
		}
		head := c.head
		if i == s.sort {
			head += map[bool]string{false: "↓", true: "↑"}[s.reverse]
		}
		columns = append(columns, table.Column{Title: head, Width: c.width})
	}
	if left := width - used; left > 0 && len(columns) == len(s.columns) {
		columns[0].Width += min(left, 30)
	}
	var rows []table.Row
	for _, r := range s.rows {
		var line table.Row
		for _, c := range r.cells[:len(columns)] {
			line = append(line, c.text)
		}
		rows = append(rows, line)
	}
	s.table.SetRows(nil) // rows and columns must fit at any moment
	s.table.SetColumns(columns)
	s.table.SetRows(rows)
	s.table.SetWidth(width)
	s.table.SetHeight(height)
}

// key does what a key asks for.
func (t *topModel) key(k tea.KeyPressMsg) tea.Cmd {
	name := k.String()
	switch {
	case name == "ctrl+c":
		return tea.Quit
	case t.asking != nil:
		a := *t.asking
		t.asking = nil
		if name != "y" {
			t.said = "left as it is"
			return nil
		}
		return func() tea.Msg {
			said, err := t.act(a)
			return acted{said, err}
		}
	case t.filtering:
		t.filterKey(k)
		return nil
	case t.help:
		t.help = false
		return nil
	}
	t.said = ""
	s := &t.sides[t.focus]
	switch name {
	case "q":
		return tea.Quit
	case "?":
		t.help = true
	case "tab", "shift+tab":
		s.table.Blur()
		t.focus = 1 - t.focus
		t.sides[t.focus].table.Focus()
	case "s":
		s.sort = (s.sort + 1) % len(s.columns)
		t.arrange()
	case "r":
		s.reverse = !s.reverse
		t.arrange()
	case "/":
		t.filtering = true
	case "p":
		t.ask(0)
	case "d":
		t.ask(1)
	default:
		var cmd tea.Cmd
		s.table, cmd = s.table.Update(k)
		return cmd
	}
	return nil
}

func (t *topModel) filterKey(k tea.KeyPressMsg) {
	switch name := k.String(); {
	case name == "enter":
		t.filtering = false
	case name == "esc":
		t.filtering, t.filter = false, ""
	case name == "backspace" && t.filter != "":
		t.filter = t.filter[:len(t.filter)-1]
	case len(k.Key().Text) == 1 && k.Key().Text != " ":
		t.filter += k.Key().Text
	}
	t.arrange()
}

// ask begins an action about what is selected in a table, if that is in front.
func (t *topModel) ask(of int) {
	s := &t.sides[of]
	if t.focus != of {
		t.said = "press tab first: that is for the other table"
		return
	}
	c := s.table.Cursor()
	if c < 0 || c >= len(s.rows) {
		return
	}
	a := action{"drain", s.rows[c].name}
	if of == 0 {
		a.verb = map[bool]string{false: "pause", true: "resume"}[s.rows[c].paused]
	}
	t.asking = &a
}
