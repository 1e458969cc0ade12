require "rails"
require "active_record/railtie"

class Shop < Rails::Application
  config.load_defaults 6.1
  config.eager_load = false
  config.logger = ActiveSupport::Logger.new($stderr, level: Logger::WARN)
  # The schema is written by pg_dump, which finds its way as the migrations do.
  config.active_record.schema_format = :sql
  config.paths["db"] = ENV.fetch("SCHEMA_DIRECTORY", "db")
  config.paths["db/migrate"] = File.expand_path("../db/migrate", __dir__)
end
