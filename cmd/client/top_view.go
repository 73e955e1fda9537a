package main

import (
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
)

var (
	faint = lipgloss.NewStyle().Faint(true)
	bold  = lipgloss.NewStyle().Bold(true)
	alarm = lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Color("1"))
)

// View implements tea.Model.
func (t *topModel) View() tea.View {
	v := tea.NewView(t.text())
	v.AltScreen, v.WindowTitle = true, "reparto "+clean(t.target)
	return v
}

func (t *topModel) text() string {
	switch {
	case t.width > 0 && (t.width < leastWidth || t.height < leastHeight):
		return fmt.Sprintf("%d by %d is too small: want %d by %d", t.width, t.height, leastWidth, leastHeight)
	case t.help:
		return topLong + "\n\nAny key goes back."
	case t.now == nil && t.failed != nil:
		return alarm.Render(t.trouble())
	case t.now == nil:
		return "looking at " + clean(t.target) + " …"
	}
	var b strings.Builder
	b.WriteString(bold.Render(clean(t.target)) + "  " + wrap(headline(t.now), t.width) + "\n")
	fmt.Fprintf(&b, "finished/s %s %.1f\n\n", sparkline(t.finished), t.finished[len(t.finished)-1])
	for i := range t.sides {
		view := t.sides[i].table.View()
		if i != t.focus {
			view = faint.Render(view)
		}
		b.WriteString(view + "\n")
	}
	page := b.String()
	if t.failed != nil { // the last that was seen, and how old that is
		page = faint.Render(page)
	}
	return page + t.bottom()
}

// bottom is the line for questions, news and hints.
func (t *topModel) bottom() string {
	switch {
	case t.asking != nil:
		return bold.Render(fmt.Sprintf("%s %s? y/n", t.asking.verb, clean(t.asking.name)))
	case t.filtering:
		return "/" + t.filter + "▏  enter keeps it, esc drops it"
	case t.failed != nil:
		return alarm.Render(fmt.Sprintf("%s; what is shown is %s old", t.trouble(), span(time.Since(t.now.at))))
	case t.said != "":
		return t.said
	}
	hint := "tab table  s sort  r reverse  / filter  p pause/resume  d drain  ? help  q quit"
	if t.filter != "" {
		hint = "only *" + t.filter + "*  " + hint
	}
	return faint.Render(hint)
}

func (t *topModel) trouble() string {
	return short(t.target+" does not answer, trying on: "+plain(t.failed).Error(), max(t.width-24, 60))
}

// wrap breaks a line so that it fits, at spaces.
func wrap(line string, width int) string {
	return lipgloss.NewStyle().Width(max(width-1, 20)).Render(line)
}

// sparkline draws values, the largest as high as a line is.
func sparkline(values []float64) string {
	const bars = "▁▂▃▄▅▆▇█"
	heights := []rune(bars)
	highest := 0.0
	for _, v := range values {
		highest = max(highest, v)
	}
	line := make([]rune, 0, len(values))
	for _, v := range values {
		h := 0
		if highest > 0 {
			h = int(v / highest * float64(len(heights)-1))
		}
		line = append(line, heights[h])
	}
	return string(line)
}
