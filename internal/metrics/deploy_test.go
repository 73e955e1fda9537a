package metrics

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const deploy = "../../deploy/"

// TestAlertsAndDashboardAskForWhatThereIs: each metric of ours that they name is in
// docs/metrics.md, which is held against what is exported.
func TestAlertsAndDashboardAskForWhatThereIs(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"prometheus/alerts.yml", "prometheus/alerts_test.yml", "grafana/dashboard.json"} {
		raw, err := os.ReadFile(deploy + file)
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile(`reparto_[a-z_]+`).FindAllString(string(raw), -1)
		if len(names) < 10 {
			t.Errorf("%s names %d metrics", file, len(names))
		}
		for _, name := range names {
			name = regexp.MustCompile(`(_seconds)_(bucket|count|sum)$`).ReplaceAllString(name, "$1")
			if !strings.Contains(string(page), "| `"+name+"` |") {
				t.Errorf("%s asks for %s, which there is not", file, name)
			}
		}
	}
}

// TestAlerts has promtool check the rules and play what they are for.
func TestAlerts(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if slices.Contains(strings.Split(os.Getenv("REPARTO_TEST_NEED"), ","), "promtool") {
			t.Fatal("promtool is not there, and REPARTO_TEST_NEED says that it must be")
		}
		t.Skip("SKIPPED: promtool is not installed")
	}
	for _, args := range [][]string{{"check", "config", "prometheus.yml"}, {"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = deploy + "prometheus"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestEveryAlertSaysWhatToDo, and is played in alerts_test.yml.
func TestEveryAlertSaysWhatToDo(t *testing.T) {
	rules, err := os.ReadFile(deploy + "prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	played, err := os.ReadFile(deploy + "prometheus/alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	alerts := strings.Split(string(rules), "- alert: ")[1:]
	for _, a := range alerts {
		name, _, _ := strings.Cut(a, "\n")
		if !strings.Contains(a, "summary: ") || !strings.Contains(a, "description: ") || !strings.Contains(a, "severity: ") {
			t.Errorf("%s has no summary, description or severity", name)
		}
		if !strings.Contains(string(played), name) {
			t.Errorf("%s is not played in alerts_test.yml", name)
		}
	}
}

// TestDashboard: each panel can be read by somebody who did not draw it, takes its
// data from the chosen source, and has a place of its own.
func TestDashboard(t *testing.T) {
	raw, err := os.ReadFile(deploy + "grafana/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	type source struct{ UID string }
	var d struct {
		Title      string
		Templating struct{ List []struct{ Name string } }
		Panels     []struct {
			ID                       int
			Type, Title, Description string
			Datasource               source
			GridPos                  struct{ H, W, X, Y int }
			Targets                  []struct {
				Datasource         source
				Expr, LegendFormat string
			}
			FieldConfig struct{ Defaults struct{ Unit string } }
		}
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d %q: its id is taken, or it has no title", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := taken[at]; other != "" || at[0] >= 24 {
					t.Fatalf("%s lies on %s, or beyond the right end", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%s has no description, unit, source of data or query", p.Title)
		}
		for _, q := range p.Targets {
			if q.Datasource.UID != "${datasource}" || q.LegendFormat == "" || !strings.Contains(q.Expr, `instance=~"$instance"`) {
				t.Errorf("%s: %s has no legend, or does not heed the choice of balancers", p.Title, q.Expr)
			}
		}
	}
	if len(ids) < 20 {
		t.Errorf("%d panels", len(ids))
	}
}

// TestTheDashboardsQueriesAreQueries, by promtool, which reads them as rules.
func TestTheDashboardsQueriesAreQueries(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("SKIPPED: promtool is not installed")
	}
	raw, err := os.ReadFile(deploy + "grafana/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for i, m := range regexp.MustCompile(`"expr": ("(?:[^"\\]|\\.)*")`).FindAllStringSubmatch(string(raw), -1) {
		var expr string
		if err := json.Unmarshal([]byte(m[1]), &expr); err != nil {
			t.Fatal(err)
		}
		expr = strings.NewReplacer("$__rate_interval", "5m", "$instance", ".+", "$function", ".+").Replace(expr)
		quoted, err := json.Marshal(expr)
		if err != nil {
			t.Fatal(err)
		}
		rules.WriteString("  - {record: query_" + string(rune('a'+i%26)) + string(rune('a'+i/26)) + ", expr: " + string(quoted) + "}\n")
	}
	file := t.TempDir() + "/rules.yml"
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
