// Package prom asks a Prometheus over HTTP, for tests on real hosts.
package prom

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// Server is where a Prometheus answers, as in http://10.10.10.10:9090.
type Server string

// Sample is one line of an answer.
type Sample struct {
	Labels map[string]string
	Value  float64
}

// Query asks what an expression is now.
func (s Server) Query(ctx context.Context, expr string) ([]Sample, error) {
	var out struct {
		ResultType string          `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	}
	if err := s.get(ctx, "/api/v1/query?query="+url.QueryEscape(expr), &out); err != nil {
		return nil, err
	}
	if out.ResultType != "vector" {
		return nil, fmt.Errorf("ask for %s: expected a vector, got a %s", expr, out.ResultType)
	}
	var lines []struct {
		Metric map[string]string `json:"metric"`
		Value  [2]any            `json:"value"`
	}
	if err := json.Unmarshal(out.Result, &lines); err != nil {
		return nil, fmt.Errorf("read the answer to %s: %w", expr, err)
	}
	var samples []Sample
	for _, l := range lines {
		text, _ := l.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("read the answer to %s: %w", expr, err)
		}
		samples = append(samples, Sample{Labels: l.Metric, Value: v})
	}
	return samples, nil
}

// Names are the names of all metrics that it has.
func (s Server) Names(ctx context.Context, matching string) ([]string, error) {
	var out []string
	err := s.get(ctx, "/api/v1/label/__name__/values?match[]="+url.QueryEscape(matching), &out)
	return out, err
}

// Target is one that it looks at.
type Target struct {
	Labels    map[string]string `json:"labels"`
	Health    string            `json:"health"`
	LastError string            `json:"lastError"`
}

// Targets are those that it looks at now.
func (s Server) Targets(ctx context.Context) ([]Target, error) {
	var out struct {
		ActiveTargets []Target `json:"activeTargets"`
	}
	err := s.get(ctx, "/api/v1/targets?state=active", &out)
	return out.ActiveTargets, err
}

// Alert is one that waits ("pending") or fires ("firing").
type Alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	State       string            `json:"state"`
}

// Alerts are those that are not at rest.
func (s Server) Alerts(ctx context.Context) ([]Alert, error) {
	var out struct {
		Alerts []Alert `json:"alerts"`
	}
	err := s.get(ctx, "/api/v1/alerts", &out)
	return out.Alerts, err
}

// get reads the data of an answer.
func (s Server) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, string(s)+path, nil)
	if err != nil {
		return fmt.Errorf("ask Prometheus: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask Prometheus: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("ask Prometheus: %w", err)
	}
	var out struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal(body, &out); err != nil || out.Status != "success" {
		return fmt.Errorf("ask Prometheus for %s: %s %s", path, res.Status, out.Error)
	}
	if err := json.Unmarshal(out.Data, into); err != nil {
		return fmt.Errorf("read Prometheus's answer to %s: %w", path, err)
	}
	return nil
}

// BrokenRules are those that could not be worked out, and why. An error when there are no rules.
func (s Server) BrokenRules(ctx context.Context) ([]string, error) {
	var out struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string } `json:"rules"`
		} `json:"groups"`
	}
	if err := s.get(ctx, "/api/v1/rules", &out); err != nil {
		return nil, err
	}
	var broken []string
	rules := 0
	for _, g := range out.Groups {
		for _, r := range g.Rules {
			if rules++; r.Health != "ok" {
				broken = append(broken, fmt.Sprintf("%s is %s: %s", r.Name, r.Health, r.LastError))
			}
		}
	}
	if rules == 0 {
		return nil, fmt.Errorf("ask %s for its rules: there are none", s)
	}
	return broken, nil
}
