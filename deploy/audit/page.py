"""The page of an audit, as a Jinja template, and what it has beside the reports' style. It loads
nothing and runs nothing."""

EXTRA = """\
.notice.good { background: var(--card); border-color: var(--good); }
.notice.good h2 { color: var(--good); }
.card > .chart svg { max-width: 760px; }
.wanting { padding-left: 18px; }
"""
PAGE = """\
{% macro digests(rows) %}
    {% for row in rows %}
    <tr><th scope="row">{{ row.name }}</th><td><code>{{ row.original }}</code></td>
      <td><code>{{ row.forgotten }}</code></td><td><code>{{ row.without }}</code></td>
      <td>{{ "same" if row.same else "not the same" }}</td></tr>
    {% endfor %}
{% endmacro %}
{% set page_title = "Forgetting · " ~ id %}
{% include "head" +%}
<body>
<header>
  <p class="brand">Covey<span>audit of forgetting</span></p>
  <div class="title">
    <h1>{{ recipe }}</h1>
    <span class="status {{ kind }}">{{ outcome }}</span>
  </div>
  <p class="subtitle"><code>{{ id }}</code>, in the place of <code>{{ of }}</code></p>
  <dl class="facts">
    {% for name, value in facts %}
    <div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
    {% endfor %}
  </dl>
</header>
<main>
<section class="notice{{ notice }}" role="status">
  <h2>{{ title }}</h2>
  <p>{{ text }}</p>
  {% if notes %}
  <ul>
    {% for note in notes %}
    <li>{{ note }}</li>
    {% endfor %}
  </ul>
  {% endif %}
</section>

<section>
  <h2>Who can be found</h2>
  {% if attacks %}
  <p class="lead">An attack scores each forgotten image, and {{ beside }}, and is calibrated by runs
    without the data. AUC .5 is guessing; TPR is the share of forgotten images that are found while
    1 % of the others are accused. Up to {{ margin }} from .5 is no finding.</p>
  <div class="card scroll">
  <table>
    <thead><tr><th>Attack by</th><th class="n">AUC before</th><th class="n">after</th>
      <th class="n">without the data</th><th class="n">TPR before</th><th class="n">after</th>
      <th class="n">without</th><th>Finding</th></tr></thead>
    <tbody>
    {% for row in attacks %}
    <tr><th scope="row"><abbr title="{{ row.about }}">{{ row.name }}</abbr></th>
      <td class="n">{{ row.before }}</td><td class="n best">{{ row.after }}</td>
      <td class="n">{{ row.without }}</td><td class="n">{{ row.tpr_before }}</td>
      <td class="n">{{ row.tpr_after }}</td><td class="n">{{ row.tpr_without }}</td>
      <td>{{ row.state }}</td></tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
  <figure class="card">
    <figcaption><h3>AUC of each attack</h3><p>The band is what counts as guessing.</p></figcaption>
    <div class="chart">{{ chart }}</div>
    <ul class="legend">
      <li><span class="swatch s1 round"></span>before</li>
      <li><span class="swatch s0 round"></span>after</li>
      <li><span class="swatch s8 round"></span>without the data</li>
    </ul>
  </figure>
  {% else %}
  <p>Nobody has looked.</p>
  {% endif %}
</section>

<section>
  <h2>What it is worth</h2>
  <p class="lead">{{ "On the sites' own images, as the runs report it" if own else
    "On images that no site has; agreement: on the sites' own" }}. A gap is to the
    mean of the runs without the data, under seeds {{ seeds }}; ± is their standard deviation.</p>
  <div class="card scroll">
  <table>
    <thead><tr><th></th><th class="n">before</th><th class="n">after</th>
      <th class="n">without the data</th><th class="n">gap</th></tr></thead>
    <tbody>
    {% for row in figures %}
    <tr><th scope="row"><abbr title="{{ row.about }}">{{ row.name }}</abbr></th>
      <td class="n">{{ row.before }}</td><td class="n best">{{ row.after }}</td>
      <td class="n">{{ row.without }}</td><td class="n">{{ row.gap }}</td></tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
</section>

<section>
  <h2>The bits</h2>
  <p class="lead">Digests of what was learned; on the right a run from the beginning, without the
    data, under the same seed.</p>
  <div class="card scroll">
  <table>
    <thead><tr><th></th><th>before</th><th>after</th><th>without the data</th><th></th></tr></thead>
    <tbody>
{{ digests(published) }}    </tbody>
  </table>
  </div>
  {% if sums %}
  <div class="card scroll"><h3>Sums over images</h3>
  <table>
    <thead><tr><th></th><th>everybody's</th><th>less the forgotten</th><th>of the others</th>
      <th></th></tr></thead>
    <tbody>
{{ digests(sums) }}    </tbody>
  </table>
  </div>
  {% endif %}
</section>

{% if wanting %}
<section>
  <h2>What could not be had</h2>
  <ul class="wanting">
    {% for each in wanting %}
    <li>{{ each }}</li>
    {% endfor %}
  </ul>
</section>
{% endif %}

<section>
  <h2>What it took</h2>
  <div class="card scroll">
  <table>
    <thead><tr><th></th><th class="n">forgetting</th><th class="n">a run anew</th>
      <th class="n">share</th></tr></thead>
    <tbody>
    {% for row in cost %}
    <tr><th scope="row">{{ row.name }}</th><td class="n">{{ row.forgetting }}</td>
      <td class="n">{{ row.anew }}</td><td class="n">{{ row.share }}</td></tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
</section>
</main>
<footer>
  <p>An attack that fails proves nothing about a better one. Equal bits do: nobody can find in them
    what was never there. This page has counts and figures, no image and no name of a file.</p>
</footer>
</body>
</html>
"""
