{
  _config+:: {
    // Put the address of your copy of the pages in front.
    runbookPage: 'docs/operations.md',

    // The board, and where a link to it leads.
    dashboardTitle: 'HeirFlow',
    dashboardUid: 'heirflow',
    dashboardTags: ['heirflow'],

    // What statsd_exporter puts before Airflow's own metrics: [metrics] statsd_prefix, which is airflow in the chart.
    airflowPrefix: 'airflow',
  },
}
