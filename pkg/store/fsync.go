package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// fsyncMetric is etcd's own measure of how long its log takes to reach the disk, on which
// every write waits.
const fsyncMetric = "etcd_disk_wal_fsync_duration_seconds"

// Histogram counts how often something took at most so long, in seconds, by that bound;
// the largest bound is infinite and counts all.
type Histogram map[float64]uint64

// Since is what was counted after an earlier look; all of it when the counting began anew
// in between.
func (h Histogram) Since(earlier Histogram) Histogram {
	out := Histogram{}
	for bound, n := range h {
		if n < earlier[bound] {
			return h
		}
		out[bound] = n - earlier[bound]
	}
	return out
}

// Quantile is the bound under which the part q of all is, and how many there are. Infinity
// when it is above every bound that is counted.
func (h Histogram) Quantile(q float64) (seconds float64, of uint64) {
	of = h[math.Inf(1)]
	seconds = math.Inf(1)
	for bound, n := range h {
		if of > 0 && float64(n) >= q*float64(of) {
			seconds = min(seconds, bound)
		}
	}
	return seconds, of
}

// Fsyncs reads from each member of etcd that is reached without TLS how long its disk took,
// by endpoint. One that does not tell is left out and in the error.
func (c *Client) Fsyncs(ctx context.Context) (map[string]Histogram, error) {
	out := map[string]Histogram{}
	var errs []error
	for _, endpoint := range c.endpoints {
		if !strings.HasPrefix(endpoint, "http://") {
			continue
		}
		h, err := fsyncs(ctx, endpoint)
		if err != nil {
			errs = append(errs, fmt.Errorf("read metrics of etcd at %s: %w", endpoint, err))
			continue
		}
		out[endpoint] = h
	}
	return out, errors.Join(errs...)
}

func fsyncs(ctx context.Context, endpoint string) (Histogram, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(endpoint, "/")+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", resp.Status)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return nil, err
	}
	f, ok := families[fsyncMetric]
	if !ok || len(f.Metric) == 0 {
		return nil, fmt.Errorf("it has no %s", fsyncMetric)
	}
	h := Histogram{math.Inf(1): f.Metric[0].GetHistogram().GetSampleCount()}
	for _, b := range f.Metric[0].GetHistogram().GetBucket() {
		h[b.GetUpperBound()] = b.GetCumulativeCount()
	}
	return h, nil
}
