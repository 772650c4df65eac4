package watch

import "time"

// retry is how soon a folder that is not there is looked for again.
const retry = 250 * time.Millisecond

// look tries to watch what is not watched, and tells those who can't be told
// otherwise. It sleeps while everything is watched.
func (w *Watcher) look() {
	t := time.NewTimer(0)
	defer t.Stop()
	<-t.C
	told := time.Now()
	for {
		select {
		case <-w.wake:
			told = time.Now()
		case <-t.C:
		}
		blind := time.Since(told) >= Blind
		if blind {
			told = time.Now()
		}
		w.mu.Lock()
		if w.closed {
			w.mu.Unlock()
			return
		}
		var tell []func()
		waiting := false
		for _, d := range w.folders {
			if d.wd >= 0 {
				continue
			}
			w.watch(d)
			waiting = waiting || d.wd < 0
			if d.wd >= 0 || blind && !d.gone {
				for _, s := range d.subs {
					tell = append(tell, s.changed) // what happened meanwhile nobody saw
				}
			}
		}
		w.mu.Unlock()
		for _, f := range tell {
			f()
		}
		if waiting {
			t.Reset(retry)
		}
	}
}
