"""The report's page, as a Jinja template. It stands in a Python file, as its style does, because a
Flower app bundle carries no HTML and no CSS."""

PAGE = """\
{% set page_title = recipe ~ " · " ~ id %}
{% include "head" +%}
<body>
{% macro figure(one) %}
<figure class="card {{ one.kind }}">
  <figcaption><h3>{{ one.title }}</h3><p>{{ one.note }}</p></figcaption>
  <div class="chart">{{ one.svg }}</div>
  {% if one.legend %}
  <ul class="legend">
    {% for style, name in one.legend %}
    <li><span class="swatch {{ style }}"></span>{{ name }}</li>
    {% endfor %}
  </ul>
  {% endif %}
</figure>
{% endmacro %}
{% macro figures(several) %}
<div class="grid">
{% for one in several %}
{{ figure(one) }}
{% endfor %}
</div>
{% endmacro %}
<header>
  <p class="brand">Covey<span>run report</span></p>
  <div class="title">
    <h1>{{ recipe }}</h1>
    <span class="status {{ status }}">{{ status }}</span>
  </div>
  <p class="subtitle">{% if title %}{{ title }} · {% endif %}<code>{{ id }}</code></p>
  <dl class="facts">
    {% for name, value in facts %}
    <div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
    {% endfor %}
  </dl>
</header>
<main>
{% if superseded %}
<section class="notice" role="status">
  <h2>Superseded</h2>
  <p>Images were taken back. In its place is <code>{{ superseded }}</code>: use its model. What was
    learned here, and the models that sites received of it, hold what the images had added.</p>
</section>
{% endif %}
{% if warnings.reason %}
<section class="notice failure" role="alert">
  <h2>The run failed</h2>
  <p>{{ warnings.reason }}</p>
</section>
{% elif status == "failed" %}
<section class="notice failure" role="alert"><h2>The run failed</h2></section>
{% endif %}
{% macro lines(several) %}
<ul>
  {% for where, text in several %}
  <li>{% if where %}<b>{{ where }}</b> &ensp;{% endif %}{{ text }}</li>
  {% endfor %}
</ul>
{% endmacro %}
{% if worse %}
<section class="notice">
  <h2>A stage lowered a figure</h2>
  <ul>{% for text in worse %}<li>{{ text }}</li>{% endfor %}</ul>
</section>
{% endif %}
{% if warnings.first %}
<section class="notice">
  <h2>{{ "Warning" if warnings.first | length == 1 else "Warnings" }}</h2>
  {{ lines(warnings.first) }}
  {% if warnings.more %}
  <details><summary>{{ warnings.more | length }} more</summary>{{ lines(warnings.more) }}</details>
  {% endif %}
</section>
{% endif %}

{% if later %}
<section>
  <h2>{{ "How many clusters?" if later.candidates else "Taken apart" }}</h2>
  {% for text in later.told %}<p class="lead">{{ text }}.</p>{% endfor %}
  {% if later.figures %}{{ figures(later.figures) }}{% endif %}
  {% if later.candidates %}
  <div class="card scroll tall-table" tabindex="0">
  <table>
    <thead><tr><th class="n">Clusters</th><th class="n">Silhouette</th>
      <th class="n"><abbr title="how well two views of an image agree, beyond chance">Views</abbr>
      </th>
      <th class="n"><abbr title="how well clusterings from other starts agree, beyond chance">
        Starts</abbr></th>
      <th class="n">Merge cost</th>
      <th class="n"><abbr title="what of all squared distances lies inside clusters">Spread</abbr>
      </th></tr></thead>
    <tbody>
    {% for one in later.candidates %}
    <tr><th scope="row" class="n">{{ one.clusters }}</th>
      <td class="n">{{ "%.3f" | format(one.silhouette) }}</td>
      <td class="n">{{ "%.3f" | format(one.views) }}</td>
      <td class="n">{{ "%.3f" | format(one.restarts) }}</td>
      <td class="n">{{ "%.4f" | format(one.merge_cost) }}</td>
      <td class="n">{{ "%.3f" | format(one.spread) }}</td></tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
  {% endif %}
</section>
{% endif %}
<section>
{% if headline %}
  <h2>{{ headline.title }}</h2>
  <div class="tiles">
    {% for tile in headline.tiles %}
    <div class="card tile">
      <h3>{{ tile.name }}</h3>
      <p class="value">{{ tile.value }}</p>
      {% if tile.fill is not none %}
      <div class="meter"><span style="width: {{ (100 * tile.fill) | round(1) }}%"></span></div>
      {% endif %}
      <p class="about">{{ tile.about }}</p>
      {% if tile.change %}
      <p class="change {{ tile.kind }}">{{ tile.change }}
        <span>since {{ headline.before }}</span></p>
      {% endif %}
    </div>
    {% endfor %}
  </div>
  {% if behind %}<p class="aside">{{ behind }}</p>{% endif %}
  {% if not labels %}
  <p class="aside">No site has labels, so there is no accuracy to report. These figures need
    none.</p>
  {% endif %}
{% else %}
  <h2>Results</h2>
  <p class="card empty">
    {% if begun %}Nothing has been measured yet: the first figures come with the second round.
    {% elif status == "running" %}The run is under way; no round has ended yet.
    {% else %}No round has ended.{% endif %}
  </p>
{% endif %}
{% if table.rows %}
  <div class="card scroll">
  <table class="stages">
    <thead><tr><th>Stage</th><th>Objective or solver</th><th class="n">Rounds</th>
      <th><abbr title="what assigns images to clusters">By</abbr></th>
      {% for metric in table.metrics %}
      <th class="n"><abbr title="{{ metric.about }}">{{ metric.title }}</abbr></th>
      {% endfor %}
    </tr></thead>
    <tbody>
    {% for row in table.rows %}
    <tr><th scope="row">{{ loop.index }} {{ row.name }}</th><td>{{ row.method }}</td>
      <td class="n">{{ row.progress }}</td><td>{{ row.by }}</td>
      {% for value in row["values"] %}
      <td class="n{{ ' best' if row.marks[loop.index0] }}">{{ value }}</td>
      {% endfor %}
    </tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
{% endif %}
</section>

{% if learning %}
<section><h2>Learning</h2>{{ figures(learning) }}</section>
{% endif %}
{% if clusters %}
<section><h2>Clusters</h2>{{ figures(clusters) }}</section>
{% endif %}
{% if names %}
<section>
  <h2>Names</h2>
  <p class="lead">What the coordinator has called the clusters, from what sites have offered or by
    hand.</p>
  <div class="card scroll" tabindex="0">
  <table>
    <thead><tr><th class="n">Cluster</th><th>Name</th><th class="n">Images</th></tr></thead>
    <tbody>
    {% for number, name, images in names %}
    <tr><th scope="row" class="n">{{ number }}</th><td>{{ name }}</td>
      <td class="n">{{ images }}</td></tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
</section>
{% endif %}
{% if pictures %}
<section>
  <h2>Pictures</h2>
  <p class="lead">Nearest to each cluster's centre, of a sample of the images. They are on this
    machine, and this page holds them: whoever has it sees them.</p>
  <div class="card">
  {% for number, shown in pictures %}
  <div class="near"><b>{{ number }}</b>
    {%- for address in shown %}<img src="{{ address }}" alt="" loading="lazy">{% endfor %}</div>
  {% endfor %}
  </div>
</section>
{% endif %}
{% if cost %}
<section><h2>Cost</h2>{{ figures(cost) }}</section>
{% endif %}
{% if sites %}
<section>
  <h2>Sites</h2>
  {% if attendance %}<p class="lead">{{ attendance }}</p>{% endif %}
  {% if delivered %}<p class="lead">{{ delivered }}.</p>{% endif %}
  {% for site, told in files %}
  <p class="lead">Files{% if site %} of {{ site }}{% endif %}: {{ told }}.</p>
  {% endfor %}

  <div class="card scroll tall-table" tabindex="0">
  <table class="sites">
    <thead><tr><th>Site</th><th class="n">Images</th><th class="bar"></th><th>Size</th>
      <th>Device</th><th class="n">Answered</th>{% if begun %}<th>Rounds</th>{% endif %}
      <th>Data</th></tr></thead>
    <tbody>
    {% for site in sites %}
    <tr><th scope="row">{{ site.name }}</th><td class="n">{{ site.examples }}</td>
      <td class="bar"><span style="width: {{ (100 * site.share) | round(1) }}%"></span></td>
      <td class="shape">{{ site["images"] }}</td><td>{{ site.device }}</td>
      <td class="n">{{ site.answered }}</td>
      {% if begun %}
      <td>{% if site.strip is not none %}{{ site.strip }}{% endif %}
        {% if site.trouble %}<span class="trouble">{{ site.trouble }}</span>{% endif %}
        {% if site.problem %}<span class="problem">{{ site.problem }}</span>{% endif %}</td>
      {% endif %}
      <td><code>{{ site.fingerprint }}</code></td></tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
  {% if begun %}
  <ul class="legend states">
    <li><span class="swatch answered"></span>answered</li>
    <li><span class="swatch missing"></span>missing</li>
    <li><span class="swatch refused"></span>refused</li>
    <li><span class="swatch unasked"></span>not asked</li>
  </ul>
  {% endif %}
</section>
{% endif %}

<section>
  <h2>Settings</h2>
  <div class="card command"><h3>The command that repeats this run</h3><pre>
    {%- for part in command %}<span>{{ part }}</span> {% endfor -%}
    </pre></div>
  <div class="grid">
    <div class="stack">
      <div class="card"><h3>Run</h3>
        <dl class="pairs">
          {% for name, value in settings %}
          <div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
          {% endfor %}
        </dl>
      </div>
      {% if versions %}
      <div class="card"><h3>Versions</h3>
        <dl class="pairs">
          {% for name, value in versions %}
          <div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
          {% endfor %}
        </dl>
      </div>
      {% endif %}
    </div>
    {% if stages %}
    <div class="card scroll settings"><h3>Stages</h3>
      <table>
        <thead><tr><th></th>
          {% for stage in stages %}
          <th>{{ loop.index }} {{ stage["name"] | default("") }}</th>
          {% endfor %}
        </tr></thead>
        <tbody>
        {% for name, row in stage_settings %}
        <tr><th scope="row">{{ name }}</th>
          {% for value in row %}<td>{{ value }}</td>{% endfor %}</tr>
        {% endfor %}
        </tbody>
      </table>
    </div>
    {% endif %}
  </div>
  <details class="card"><summary>run.json, in full</summary><pre>{{ json }}</pre></details>
</section>
</main>
<footer>
  <p>ACC, NMI, ARI and purity are exact over all sites that have labels: the sites send only counts
  of (cluster, class), and the server adds them up. kNN and the linear probe are scored on images
  that neither has seen. No image, label or embedding leaves a site.</p>
</footer>
</body>
</html>
"""
