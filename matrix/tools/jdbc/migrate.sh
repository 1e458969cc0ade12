# The URL that docs/quickstarts/flyway.md makes, given to the same driver.
escaped=$(printf %s "$PGOPTIONS" | sed 's/ /%20/g; s/=/%3D/g')
url="jdbc:postgresql://$PGHOST:$PGPORT/$PGDATABASE?sslmode=${PGSSLMODE:-prefer}&options=$escaped"
exec java -cp /usr/share/java/postgresql.jar Migrate.java "$url" "$1"
