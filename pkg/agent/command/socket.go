package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/agent"
)

// askTime bounds every question to the agent: it answers from memory, and what
// waits for the answer may be HAProxy's start.
const askTime = time.Second

// control asks the running agent over its socket.
type control struct{ client http.Client }

func dial(socket string) control {
	return control{http.Client{
		Timeout: askTime,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
		},
	}}
}

// unknownError is the agent's agent.ErrUnknown.
type unknownError struct{ words string }

func (e *unknownError) Error() string { return e.words }

func (c control) do(ctx context.Context, method, path string, question ...byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the agent: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("ask the agent: %w", err)
	}
	switch words := strings.TrimSpace(string(body)); resp.StatusCode { // the agent's own
	case http.StatusBadRequest:
		return nil, errors.New(words)
	case http.StatusConflict:
		return nil, &unknownError{words}
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask the agent: %s", strings.TrimSpace(string(body)))
	}
	return body, nil
}

func (c control) status(ctx context.Context) (agent.Status, error) {
	var st agent.Status
	body, err := c.do(ctx, http.MethodGet, "/status")
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(body, &st); err != nil {
		return st, fmt.Errorf("read the agent's status: %w", err)
	}
	return st, nil
}

func (c control) hold(ctx context.Context, h agent.Hold) (agent.Held, error) {
	var held agent.Held
	question, err := json.Marshal(h)
	if err != nil {
		return held, fmt.Errorf("ask the agent: %w", err)
	}
	body, err := c.do(ctx, http.MethodPost, "/hold", question...)
	if err != nil {
		return held, err
	}
	if err := json.Unmarshal(body, &held); err != nil {
		return held, fmt.Errorf("read the agent's answer: %w", err)
	}
	return held, nil
}

func (c control) composeState(ctx context.Context, cluster string) error {
	_, err := c.do(ctx, http.MethodPost, "/haproxy-state?cluster="+url.QueryEscape(cluster))
	return err
}
