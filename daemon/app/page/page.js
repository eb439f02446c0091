// The status page, live. Everything shown came from elsewhere, so it is only ever set as text, never as markup.
(() => {
  'use strict';
  const SPAN = 15 * 60;
  const SVG = 'http://www.w3.org/2000/svg';
  const at = (id) => document.getElementById(id);
  const make = (name, text, kind) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (kind) element.className = kind;
    return element;
  };
  const draw = (name, attributes, text) => {
    const element = document.createElementNS(SVG, name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const fill = (element, children) => element.replaceChildren(...children);

  // Numbers for people.
  const round = (value) => (value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3))));
  const duration = (seconds) => {
    if (seconds === null || seconds === undefined) return 'not known';
    if (seconds < 1) return round(seconds * 1000) + ' ms';
    if (seconds < 120) return round(seconds) + ' s';
    if (seconds < 7200) return (seconds / 60).toFixed(0) + ' min';
    if (seconds < 172800) return (seconds / 3600).toFixed(0) + ' h';
    return (seconds / 86400).toFixed(0) + ' days';
  };
  const size = (bytes) => {
    if (bytes === null || bytes === undefined) return 'not known';
    let unit = 0;
    while (bytes >= 1024 && unit < 5) { bytes /= 1024; unit += 1; }
    return (unit ? round(bytes) : bytes.toFixed(0)) + ' ' + ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'][unit];
  };
  const whole = (number) => String(number).replace(/\B(?=(\d{3})+(?!\d))/g, '\u2009');
  const rate = (value) => (value === null ? 'not known' : (value >= 1000 ? whole(value.toFixed(0)) : round(value)) + '/s');
  const clock = (text) => text.slice(11, 19);
  const moment = (text, now) => {
    const ago = (Date.parse(now) - Date.parse(text)) / 1000;
    return (ago >= 1 ? duration(ago) + ' ago' : 'now') + ' (' + clock(text) + ' UTC)';
  };

  // What came last.
  let state = null;
  let rules = null;
  let happened = null;
  let samples = [];  // [time, changes, deletes, bytes, records, [lag, p50, p99]...]
  let names = [];    // of the caches

  // Charts.
  const of = (cache, which) => (sample) => (sample[5 + cache] ? sample[5 + cache][which] : null);
  const charts = [
    {id: 'lag', title: 'Lag', format: duration, series: () => names.map((name, i) => [name, of(i, 0)])},
    {id: 'latency', title: 'From commit to delete', format: duration,
     series: () => names.flatMap((name, i) => {
       const prefix = names.length > 1 ? name + ' ' : '';
       return [[prefix + 'p50', of(i, 1)], [prefix + 'p99', of(i, 2)]];
     })},
    {id: 'rates', title: 'Rates', format: rate,
     series: () => [['changes', (sample) => sample[1]], ['deletes', (sample) => sample[2]]]},
    {id: 'retained', title: 'Kept at the source', format: size,
     series: () => (samples.some((sample) => sample[4] !== null)
       ? [['records waiting', (sample) => sample[4]]] : [['WAL retained for the slot', (sample) => sample[3]]])},
  ];
  const ceiling = (value, chart) => {
    if (!(value > 0)) return 1;
    if (chart.format === size) return Math.pow(2, Math.ceil(Math.log2(value)));
    const power = Math.pow(10, Math.floor(Math.log10(value)));
    return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
  };
  let cursor = null;  // seconds ago, while somebody points at a chart or walks with the arrow keys

  function setUp(chart) {
    const figure = make('figure');
    figure.id = 'chart-' + chart.id;
    chart.caption = make('figcaption');
    chart.svg = draw('svg', {role: 'img', tabindex: '0', 'aria-roledescription': 'chart'});
    figure.append(chart.caption, chart.svg);
    at('charts').append(figure);
    const pick = (ago) => { cursor = ago === null ? null : Math.min(Math.max(ago, 0), SPAN); charts.forEach(plot); };
    chart.svg.addEventListener('pointermove', (event) => {
      const box = chart.svg.getBoundingClientRect();
      pick(SPAN * (1 - (event.clientX - box.left - chart.left) / (box.width - chart.left)));
    });
    chart.svg.addEventListener('pointerleave', () => pick(null));
    chart.svg.addEventListener('blur', () => pick(null));
    chart.svg.addEventListener('keydown', (event) => {
      const step = {ArrowLeft: 10, ArrowRight: -10, PageUp: 60, PageDown: -60}[event.key];
      if (event.key === 'Escape') pick(null);
      else if (event.key === 'Home') pick(SPAN);
      else if (event.key === 'End') pick(0);
      else if (step) pick((cursor || 0) + step);
      else return;
      event.preventDefault();
    });
  }

  function nearest(ago) {
    if (!samples.length || !state) return null;
    const time = state.clock - ago;
    return samples.reduce((best, sample) => (Math.abs(sample[0] - time) < Math.abs(best[0] - time) ? sample : best));
  }

  function plot(chart) {
    const width = Math.max(chart.svg.clientWidth, 200);
    const height = Math.max(chart.svg.clientHeight, 100);
    const bottom = height - 16;
    const series = chart.series();
    const end = state ? state.clock : 0;
    let most = 0;
    for (const [, value] of series) for (const sample of samples) most = Math.max(most, value(sample) || 0);
    const top = ceiling(most, chart);
    const label = (value) => chart.format(value);
    chart.left = 12 + 6.6 * Math.max(label(top).length, label(top / 2).length);
    const x = (time) => chart.left + (width - chart.left) * (1 - (end - time) / SPAN);
    const y = (value) => bottom - (bottom - 8) * Math.min(value / top, 1);
    const parts = [];
    for (const value of [0, top / 2, top]) {
      parts.push(draw('line', {class: 'grid', x1: chart.left, x2: width, y1: y(value), y2: y(value)}));
      parts.push(draw('text', {x: chart.left - 6, y: y(value) + 4, 'text-anchor': 'end'}, value ? label(value) : '0'));
    }
    for (const minutes of [15, 10, 5, 0]) {
      parts.push(draw('text', {x: x(end - minutes * 60), y: height - 2,
                               'text-anchor': minutes === 15 ? 'start' : minutes ? 'middle' : 'end'},
                      minutes ? '\u2212' + minutes + ' min' : 'now'));
    }
    series.forEach(([, value], index) => {
      let path = '';
      let last = null;
      for (const sample of samples) {
        const one = value(sample);
        if (one === null || one === undefined || end - sample[0] > SPAN) { last = null; continue; }
        path += (last !== null && sample[0] - last < 4 ? 'L' : 'M') + x(sample[0]).toFixed(1) + ' ' + y(one).toFixed(1);
        if (last === null || sample[0] - last >= 4) path += 'h.1';  // one alone is a dot
        last = sample[0];
      }
      parts.push(draw('path', {class: 's' + index % 4, d: path, 'stroke-linecap': 'round'}));
    });
    const shown = cursor === null ? samples[samples.length - 1] : nearest(cursor);
    if (cursor !== null && shown) {
      parts.push(draw('line', {class: 'cursor', x1: x(shown[0]), x2: x(shown[0]), y1: 0, y2: bottom}));
    }
    const when = cursor === null || !shown ? '' : ' ' + duration(Math.max(end - shown[0], 0)) + ' ago';
    const values = series.map(([name, value]) => [name, shown ? value(shown) : null]);
    const text = ([name, value]) => name + ' ' + (value === null || value === undefined ? 'none' : chart.format(value));
    fill(chart.caption, [make('strong', chart.title + when)].concat(values.map((one, index) => {
      const entry = make('span');
      entry.append(make('i', undefined, 's' + index % 4), text(one));
      return entry;
    })));
    chart.svg.setAttribute('viewBox', '0 0 ' + width + ' ' + height);
    chart.svg.setAttribute('aria-label', chart.title + when + ': ' + values.map(text).join(', ') +
      '. The last 15 minutes; arrow keys go back and forth in time.');
    fill(chart.svg, parts);
  }

  // Tables.
  const cell = (text, kind) => make('td', text, kind);
  const row = (head, cells) => {
    const line = make('tr');
    const first = make('th', head);
    first.scope = 'row';
    line.append(first, ...cells);
    return line;
  };

  function showState() {
    const status = state.status;
    const verdict = at('verdict');
    verdict.className = status.state;
    if (at('line').textContent !== status.line) at('line').textContent = status.line;  // said aloud when it changes
    fill(at('reasons'), status.not_ready.length > 1 ? status.not_ready.map((reason) => make('li', reason)) : []);
    document.title = 'evictd: ' + status.state.replace('_', ' ');
    if (!status.caches) return;
    names = status.caches.map((cache) => cache.name);
    at('about').textContent = 'evictd ' + status.version + ', up ' +
      duration(Math.max(Date.parse(status.now) - Date.parse(status.started), 0) / 1000);
    fill(at('caches'), status.caches.map((cache) => row(cache.name, [
      cell(cache.address || ''),
      cell((cache.parked ? 'parked' : cache.behind ? 'behind' : cache.state || '') + (cache.problem ? ': ' + cache.problem : '') +
           (cache.gaps.length ? '; being repaired: ' + cache.gaps.join(', ') : '')),
      cell(duration(cache.lag_seconds), 'n'),
      cell(cache.last_applied_commit ? moment(cache.last_applied_commit, status.now) : 'none since the start'),
      cell(whole(cache.inflight_transactions) + ' (' + size(cache.inflight_bytes) + ')', 'n'),
    ])));
    const source = status.source;
    const facts = [['From', source.address], ['State', source.state + (source.problem ? ': ' + source.problem : '')],
                   ['Heartbeat came back', status.flow.heartbeat_age_seconds === null ? 'not yet'
                     : duration(status.flow.heartbeat_age_seconds) + ' ago']];
    if (source.lag_bytes !== null) facts.push(['Behind the server', size(source.lag_bytes)]);
    if (source.slot_retained_bytes !== null) facts.push(['WAL retained for the slot', size(source.slot_retained_bytes)]);
    if (source.slot_safe_wal_bytes !== null) {
      facts.push(['WAL until the slot is lost', source.slot_safe_wal_bytes < 0 ? 'none left' : size(source.slot_safe_wal_bytes)]);
    }
    fill(at('source'), facts.map(([name, value]) => row(name, [cell(value)])));
    at('audit').hidden = !status.audit;
    if (status.audit) showAudit(status.audit, status.now);
    at('keys').hidden = !status.shows_keys;
  }

  // A marker in words: 'f 1040:1044: 1700000000000' is a fill, 't 73/1 1042s' an invalidation.
  function markerText(text) {
    if (!text) return 'it has none';
    const [kind, first, second] = text.split(' ');
    const when = (ms) => (ms > 0 && ms < 8.64e15 ? ' at ' + clock(new Date(Number(ms)).toISOString()) + ' UTC' : '');
    if (kind === 'f') return 'filled' + when(second) + ' by a reader that had seen ' + (first === '-' ? 'nobody knows what' : first) + ' (' + text + ')';
    if (kind === 't') return 'invalidated for ' + second + ', and not filled since (' + text + ')';
    return text;
  }

  function showAudit(audit, now) {
    at('audit-says').textContent = audit.problem ? 'Nothing is audited at the moment: ' + audit.problem : audit.says + '.';
    at('audit-counts').textContent = whole(audit.checked) + ' looked at since the start: ' + whole(audit.fresh) + ' fresh, ' +
      whole(audit.stale) + ' stale, ' + whole(audit.in_flight) + ' in flight, ' + whole(audit.unreadable) + ' unreadable.';
    const notes = audit.not_audited.map((text) => 'not audited: ' + text);
    if (audit.behind) notes.unshift(whole(audit.behind) + ' values waited for evictd in vain: ' + audit.behind_reason);
    fill(at('audit-notes'), notes.map((text) => make('li', text)));
    fill(at('audit-stale'), audit.last_stale.length ? audit.last_stale.map((one) => row(one.key, [
      cell(moment(one.at, now)), cell(one.cache), cell(one.rule), cell(duration(one.stale_seconds), 'n'), cell(one.reason),
      cell(markerText(one.marker))])) : [row('none', [cell('No stale value was found since the start.')])]);
  }

  // What became of a key that somebody types in.
  function askForKey(event) {
    event.preventDefault();
    const key = at('key').value;
    if (!key) return;
    at('key-says').textContent = 'Looking ...';
    fetch('key?name=' + encodeURIComponent(key)).then((answer) => {
      if (!answer.ok) throw new Error('evictd answered ' + answer.status);
      return answer.json();
    }).then((told) => {
      const since = told.since ? ' Kept are the last decisions, back to ' + clock(told.since) + ' UTC.' : ' There was no decision yet.';
      const count = told.decisions.length;
      at('key-says').textContent = (count ? whole(count) + (count === 1 ? ' decision' : ' decisions') + ' about ' + key + ', the latest first.'
        : 'None about ' + key + '.') + since;
      fill(at('key-decisions'), told.decisions.map((one) => row(clock(one.at) + ' UTC', [
        cell(one.what), cell(one.cache), cell(one.rule), cell(one.transactions), cell(one.outcome)])));
    }).catch((error) => {
      at('key-says').textContent = 'No answer: ' + error.message;
      fill(at('key-decisions'), []);
    });
  }

  function showRules() {
    const now = state.status.now;
    fill(at('rules'), rules.rules.map((rule) => {
      const looked = rule.deleted + rule.absent + rule.kept + rule.replayed;
      const share = cell();
      const parts = ['deleted', 'absent', 'kept', 'replayed'].filter((name) => rule[name] > 0);
      const percent = (name) => (100 * rule[name] / looked).toFixed(rule[name] === looked ? 0 : 1) + ' % ' + name;
      share.append(parts.length ? parts.map(percent).join(', ') : 'none yet');
      if (parts.length) {
        const bar = make('div', undefined, 'share');
        bar.setAttribute('aria-hidden', 'true');
        for (const name of parts) {
          const piece = make('b', undefined, name);
          piece.style.flexGrow = rule[name];
          bar.append(piece);
        }
        share.append(bar);
      }
      const line = row(rule.name, [cell(rule.table), cell(whole(rule.changes), 'n'), cell(whole(looked), 'n'),
        cell(whole(rule.deleted), 'n'), share, cell(whole(rule.purged), 'n'),
        cell(rule.last_hit ? moment(rule.last_hit, now) : 'never'), cell(rule.note, rule.note ? 'wait' : '')]);
      line.firstChild.title = rule.place;
      return line;
    }));
    at('rules-more').textContent = rules.left_out ? 'and ' + whole(rules.left_out) + ' more rules' : '';
    const reload = rules.reload;
    at('reload').textContent = 'Rules from ' + rules.file + '. ' + (!reload ? 'Not reloaded since the start.'
      : reload.success ? 'Reloaded ' + moment(reload.at, now) + '; changed: ' + reload.text + '.'
        : 'The last reload, ' + moment(reload.at, now) + ', failed and the rules before it hold: ' + reload.text);
  }

  const told = {
    gap: (one) => 'gap: ' + one.reason,
    repaired: (one) => 'repaired: ' + one.reason,
    purge: (one) => 'purged ' + one.what + ' (' + one.reason + ')',
    unmappable: (one) => 'could not be mapped: ' + one.reason,
  };
  function showEvents() {
    fill(at('events'), happened.events.length ? happened.events.map((one) => row(clock(one.at) + ' UTC', [
      cell(told[one.kind](one)), cell(one.cache || 'all'), cell(one.rule),
      cell(one.kind === 'purge' ? whole(one.count) + ' keys' : one.kind === 'unmappable' ? whole(one.count) + ' changes' : '', 'n'),
      cell(one.kind === 'purge' ? duration(one.seconds) : '', 'n')]))
      : [row('none', [cell('No purge, gap or unmappable change since the start.')])]);
  }

  // The stream, while somebody looks.
  let source = null;
  let retry = null;
  let heard = 0;
  function listen() {
    clearTimeout(retry);
    if (source || document.hidden) return;
    samples = [];
    source = new EventSource('events');
    const on = (name, take) => source.addEventListener(name, (event) => { heard = Date.now(); take(JSON.parse(event.data)); });
    on('state', (data) => { state = data; showState(); if (rules) showRules(); charts.forEach(plot); });
    on('rules', (data) => { rules = data; showRules(); });
    on('events', (data) => { happened = data; showEvents(); });
    on('samples', (data) => {
      samples = samples.concat(data).filter((sample) => state.clock - sample[0] <= SPAN + 5);
      charts.forEach(plot);
    });
    source.onerror = () => { hush(); retry = setTimeout(listen, 3000); };
  }
  function hush() {
    if (source) source.close();
    source = null;
  }
  function watch() {
    if (document.hidden || Date.now() - heard < 5000 || !state) return;
    at('verdict').className = 'lost';
    at('line').textContent = 'Nothing heard from evictd for ' + duration((Date.now() - heard) / 1000) +
      ': it ended, or too many look at this page. What follows is old.';
    fill(at('reasons'), []);
    document.title = 'evictd: nothing heard';
  }

  if (!window.EventSource || !document.body.replaceChildren) {
    setTimeout(() => location.reload(), 5000);  // too old a browser for more than the state
    return;
  }
  at('live').hidden = false;
  charts.forEach(setUp);
  at('key-form').addEventListener('submit', askForKey);
  document.addEventListener('visibilitychange', () => (document.hidden ? hush() : listen()));
  window.addEventListener('resize', () => charts.forEach(plot));
  setInterval(watch, 1000);
  listen();
})();
