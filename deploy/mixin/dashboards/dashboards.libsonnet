// One board. It shows `heirflow metrics` (the view of the store) and members with --http, whichever of the two is there, or both.
local p = import 'panels.libsonnet';
local query = p.query;
local now = p.now;

{
  local config = $._config,
  // `seen` is told by the store, which knows seats; `own` by each member of itself.
  local seen = 'election=~"$election",seat=~"$seat"',
  local own = 'election=~"$election"',
  local seat = '{{election}} #{{seat}}',
  local member = '{{election}} {{instance}}',
  local airflow(name) = '%s_%s' % [config.airflowPrefix, name],
  local rate(name, by) = 'sum by (%s) (rate(%s[$__rate_interval]))' % [by, name],

  local variable(name, label, more) = { name: name, label: label, type: 'query', datasource: { type: 'prometheus', uid: '${datasource}' }, refresh: 2, sort: 1, includeAll: true, multi: true, allValue: '.*', current: { selected: true, text: ['All'], value: ['$__all'] } } + more,
  local asked(text) = { query: { query: text, refId: 'variable' }, definition: text },

  grafanaDashboards+:: {
    'heirflow.json': {
      title: config.dashboardTitle,
      uid: config.dashboardUid,
      tags: config.dashboardTags,
      description: 'Who leads, who is next, how long nobody led, and why it changed.',
      schemaVersion: 39,
      editable: true,
      graphTooltip: 1,
      refresh: '30s',
      time: { from: 'now-6h', to: 'now' },
      timezone: 'browser',
      annotations: { list: [] },
      links: [],
      templating: { list: [
        { name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus', refresh: 1, current: {}, includeAll: false, multi: false },
        variable('election', 'Election', asked('label_values({__name__=~"heirflow_members|heirflow_member_live"}, election)')),
        variable('seat', 'Seat', asked('label_values(heirflow_term{election=~"$election"}, seat)')),
      ] },
      panels: p.laidOut([
        ['Who leads now', 5, [
          p.stat(
            'Leaders',
            'The host on which each seat is led, or the member that says so itself where nobody collects heirflow metrics.',
            'name',
            [[null, 'green']],
            [
              now('max by (election, seat, host) (heirflow_leader_info{%s})' % seen, '%s: {{host}}' % seat),
              now('max by (election, instance) (heirflow_member_leader{%s} == 1) unless on (election) heirflow_members' % own, '{{election}}: {{instance}}'),
            ],
          ) { width:: 10 },
          p.stat(
            'Nobody leads',
            'How many seats nobody leads, with a lease that has not ended.',
            'value',
            [[null, 'green'], [1, 'red']],
            [now('count(heirflow_leader_up{%s} == 0) or vector(0)' % seen, 'seats')],
          ) { width:: 3 },
          p.stat(
            'Runs nothing',
            'How many leaders hold the lead and do not run their command.',
            'value',
            [[null, 'green'], [1, 'red']],
            [now('sum(max by (election) (heirflow_member_runs_nothing{%s}) or max by (election) (heirflow_leader_runs{%s} == bool 0)) or vector(0)' % [own, seen], 'leaders')],
          ) { width:: 3 },
          p.stat(
            'Heirs',
            'How many members are ready to take charge, in the election that has the fewest.',
            'value',
            [[null, 'red'], [1, 'green']],
            [now('min(min by (election) (heirflow_heirs{%s}) or min by (election) (heirflow_member_heirs{%s}))' % [own, own], 'heirs')],
          ) { width:: 3 },
          p.stat(
            'Store',
            'Whether the store answered heirflow metrics.',
            'value',
            [[null, 'red'], [1, 'green']],
            [now('min(heirflow_store_up)', 'store')],
            words=p.words([['0', 'away', 'red'], ['1', 'up', 'green']]),
          ) { width:: 3 },
          p.stat(
            'Paused',
            'Whether somebody has ordered that nobody changes place.',
            'value',
            [[null, 'green'], [1, 'orange']],
            [now('max(heirflow_paused{%s})' % own, 'paused')],
            words=p.words([['0', 'no', 'green'], ['1', 'yes', 'orange']]),
          ) { width:: 2 },
        ]],
        ['Leadership', 8, [
          p.timeline(
            'Who led',
            'A band for each host, or for each member where nobody collects heirflow metrics. Where there is no band, it did not lead.',
            p.words([['0', 'does not lead', 'transparent'], ['1', 'leads', 'green']]),
            [
              query('max by (election, seat, host) (heirflow_leader_info{%s})' % seen, '%s {{host}}' % seat),
              query('max by (election, instance) (heirflow_member_leader{%s}) unless on (election) heirflow_members' % own, member),
            ],
          ) { width:: 14 },
          p.timeline(
            'Whether somebody led',
            'Red: nobody led the seat.',
            p.words([['0', 'nobody leads', 'red'], ['1', 'led', 'green']]),
            [query('min by (election, seat) (heirflow_leader_up{%s})' % seen, seat)],
          ) { width:: 10 },
        ]],
        ['Time', 8, [
          p.lines(
            'Gap',
            'How long nobody led before the leader last changed.',
            's',
            [
              query('max by (election, seat) (heirflow_last_gap_seconds{%s})' % seen, seat),
              query('max by (election, instance) (heirflow_member_last_gap_seconds{%s})' % own, member),
            ],
          ),
          p.lines(
            'Lease remaining',
            'For how long the leader may lead without a renewal. A healthy one always has more than half of its ttl left.',
            's',
            [
              query('min by (election, seat) (heirflow_lease_remaining_seconds{%s})' % seen, seat),
              query('min by (election, instance) (heirflow_member_lease_remaining_seconds{%s})' % own, member),
            ],
          ),
          p.lines(
            'Check-in p99',
            'Of a hundred check-ins, 99 took no longer. More than 0.15 of ttl is too long.',
            's',
            [query('histogram_quantile(0.99, %s)' % rate('heirflow_member_check_in_seconds_bucket{%s}' % own, 'election, instance, le'), member)],
          ),
          p.lines(
            'Age of check-ins',
            'How long ago a member on this host was heard.',
            's',
            [query('max by (election, host) (heirflow_check_in_age_seconds{%s})' % own, '{{election}} {{host}}')],
          ),
        ]],
        ['Changes', 8, [
          p.lines(
            'Heirs',
            'How many members are ready to take charge. With 0, nobody follows the leader.',
            'none',
            [
              query('min by (election) (heirflow_heirs{%s})' % own, '{{election}}'),
              query('min by (election) (heirflow_member_heirs{%s}) unless on (election) heirflow_heirs' % own, '{{election}}'),
            ],
          ),
          p.lines(
            'Takeovers by cause',
            'Changes of leadership within the past hour: released is in order or proved gone, lease_ended is a leader that fell silent.',
            'none',
            [
              query('sum by (election, cause) (heirflow_takeovers_past_hour{%s}) > 0' % own, '{{election}} {{cause}}'),
              query('sum by (election, cause) (increase(heirflow_member_takeovers_total{%s}[1h]) > 0) unless on (election) heirflow_takeovers_past_hour' % own, '{{election}} {{cause}}'),
            ],
            stacked=true,
          ),
          p.lines(
            'Restarts',
            'How often a leader started its command again within the past hour.',
            'none',
            [
              query('max by (election) (heirflow_restarts_past_hour{%s})' % own, '{{election}}'),
              query('sum by (election) (increase(heirflow_member_restarts_total{%s}[1h])) unless on (election) heirflow_restarts_past_hour' % own, '{{election}}'),
            ],
          ),
          p.lines(
            'Sessions of earlier leaders',
            'How many database sessions of earlier leaders were ended within the past hour.',
            'none',
            [query('sum by (election) (increase(heirflow_member_fenced_sessions_total{%s}[1h]))' % own, '{{election}}')],
          ),
        ]],
        ['Store', 6, [
          p.timeline(
            'Store up',
            'Whether the store answered heirflow metrics.',
            p.words([['0', 'away', 'red'], ['1', 'up', 'green']]),
            [query('min by (store) (heirflow_store_up)', '{{store}}')],
          ),
          p.lines(
            'Term',
            'The number of the leadership. It grows with each change.',
            'none',
            [
              query('max by (election, seat) (heirflow_term{%s})' % seen, seat),
              query('max by (election, instance) (heirflow_member_term{%s}) unless on (election) heirflow_term' % own, member),
            ],
          ),
        ]],
        ["Airflow's own", 8, [
          p.lines(
            'Beats',
            'What Airflow itself tells of its components. Beside a leader that runs, none of these stands still.',
            'cps',
            [
              query('sum(rate(%s[$__rate_interval]))' % airflow('scheduler_heartbeat'), 'scheduler'),
              query('sum(rate(%s[$__rate_interval]))' % airflow('dag_processor_heartbeat'), 'dag-processor'),
              query('sum(rate(%s[$__rate_interval]))' % airflow('triggerer_heartbeat'), 'triggerer'),
            ],
          ),
          p.lines(
            'Orphaned tasks',
            'After a takeover the next scheduler adopts what the one before left, or clears it to run again.',
            'none',
            [
              query('sum(increase(%s[5m]))' % airflow('scheduler_orphaned_tasks_adopted'), 'adopted'),
              query('sum(increase(%s[5m]))' % airflow('scheduler_orphaned_tasks_cleared'), 'cleared'),
            ],
            stacked=true,
          ),
          p.lines(
            'Critical section busy',
            'How often a scheduler found another one at work. With one leader this stays 0; otherwise a scheduler runs without HeirFlow.',
            'none',
            [query('sum(increase(%s[5m]))' % airflow('scheduler_critical_section_busy'), 'busy')],
          ),
          p.lines(
            'Tasks that wait',
            'Tasks that could run and find no free slot, and those that the executor holds in its queue.',
            'none',
            [
              query('sum(%s)' % airflow('scheduler_tasks_starving'), 'starving'),
              query('sum(%s)' % airflow('executor_queued_tasks'), 'queued'),
            ],
          ),
        ]],
      ]),
    },
  },
}
