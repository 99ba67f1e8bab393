{{/* What cannot work is refused here, with what to do. */}}
{{- define "throughline.either" -}}
{{- if and .dev .external -}}
{{- fail (printf "%s: both dev.%s.enabled and external.%s are set: choose one" .what .name .name) -}}
{{- else if not (or .dev .external) -}}
{{- fail (printf "%s: neither is set: dev.%s.enabled=true for a small one of the chart's own, or external.%s.%s" .what .name .name .key) -}}
{{- end -}}
{{- end }}

{{- define "throughline.check" -}}
{{- $v := .Values -}}
{{- if contains "@" $v.external.redis.url -}}
{{- fail "external.redis.url: a URL with a password belongs into a Secret: external.redis.existingSecret, key url" -}}
{{- end -}}
{{- include "throughline.either" (dict "what" "Redis" "name" "redis" "key" "url" "dev" $v.dev.redis.enabled "external" (or $v.external.redis.url $v.external.redis.existingSecret)) -}}
{{- if include "throughline.hasS3" . -}}
{{- include "throughline.either" (dict "what" "S3" "name" "s3" "key" "bucket" "dev" $v.dev.s3.enabled "external" $v.external.s3.bucket) -}}
{{- if and $v.external.s3.bucket (not $v.external.s3.existingSecret) -}}
{{- fail "external.s3.existingSecret: name the Secret with the keys access-key and secret-key" -}}
{{- end -}}
{{- end -}}
{{- if include "throughline.hasKafka" . -}}
{{- include "throughline.either" (dict "what" "Kafka" "name" "kafka" "key" "brokers" "dev" $v.dev.kafka.enabled "external" $v.external.kafka.brokers) -}}
{{- if and $v.external.kafka.existingSecret (not $v.external.kafka.secretKeys) -}}
{{- fail "external.kafka.secretKeys: say which setting is which key of the Secret, as in {sasl.password: password}" -}}
{{- end -}}
{{- if and $v.external.kafka.secretKeys (not $v.external.kafka.existingSecret) -}}
{{- fail "external.kafka.existingSecret: name the Secret that holds external.kafka.secretKeys" -}}
{{- end -}}
{{- else if and (include "throughline.hasLog" .) (or $v.dev.kafka.enabled $v.external.kafka.brokers) -}}
{{- fail "Kafka is set, but the log is in Redis: set log.kind=kafka, or leave dev.kafka and external.kafka out" -}}
{{- else if or $v.dev.kafka.enabled $v.external.kafka.brokers -}}
{{- fail (printf "Kafka is set, but strategy %s keeps no log there: leave dev.kafka and external.kafka out" $v.strategy) -}}
{{- end -}}
{{- if get ($v.job.log | default dict) "url" -}}
{{- fail "job.log.url: set log.kind (redis or kafka) instead" -}}
{{- end -}}
{{- if and (include "throughline.hasLog" .) (not (include "throughline.hasStore" .)) -}}
{{- fail (printf "job.recovery: replay is of use with strategy checkpoint, not with %s" $v.strategy) -}}
{{- end -}}
{{- if and (not (include "throughline.hasStore" .)) (get ($v.job.checkpoint | default dict) "store") -}}
{{- fail (printf "job.checkpoint.store: strategy %s has no store" $v.strategy) -}}
{{- end -}}
{{- range tuple "data" "strategy" "consistency" "shards" "workers" -}}
{{- if hasKey $v.job . -}}
{{- fail (printf "job.%s: set the chart's own value %s instead" . (ternary "workers.count" . (eq . "workers"))) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $v.data.source "volume") (not $v.data.volume) -}}
{{- fail "data.volume: data.source volume needs a volume source, as in {persistentVolumeClaim: {claimName: mnist}}" -}}
{{- end -}}
{{- if eq $v.data.source "url" -}}
{{- if not $v.data.url.base }}{{ fail "data.url.base: data.source url needs the folder's address" }}{{ end -}}
{{- range tuple "trainImages" "trainLabels" "testImages" "testLabels" -}}
{{- $name := get $v.data . -}}
{{- if not (get $v.data.url.sha256 $name) }}{{ fail (printf "data.url.sha256: the SHA-256 of %s is missing" $name) }}{{ end -}}
{{- end -}}
{{- if hasPrefix "/usr" $v.data.path }}{{ fail "data.path: with data.source url choose a path outside the image, as in /data" }}{{ end -}}
{{- end -}}
{{- end }}
