package store

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckVersion(t *testing.T) {
	for version, ok := range map[string]bool{
		"3.6.13": false, "3.6.14": true, "3.6.15-pre": true, "3.6.140": true,
		"3.7.0": false, "3.7.1": true, "3.7.3": true, "3.8.0": true, "4.0.0": true,
		"3.5.30": false, "2.3.8": false, "": false, "not a version": false,
	} {
		err := checkVersion("http://e:2379", version)
		if (err == nil) != ok || err != nil && !errors.Is(err, ErrServerTooOld) {
			t.Errorf("%q: %v", version, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "3.6.14") || !strings.Contains(err.Error(), version)) {
			t.Errorf("%q: the error names neither what was found nor what is needed: %v", version, err)
		}
	}
}
