package agent

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// broken says one thing that nobody can say.
type broken struct{}

func (broken) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(broken{}, ch) }

func (broken) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(prometheus.NewDesc("broken", "x", nil, nil), errors.New("wrong"))
}

// TestOneWrongMetricTakesNoOther: what can be said is said.
func TestOneWrongMetricTakesNoOther(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(broken{}, prometheus.NewGauge(prometheus.GaugeOpts{Name: "right", Help: "x"}))
	w := httptest.NewRecorder()
	(&Agent{o: Options{Registry: r}}).Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "right 0") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}
