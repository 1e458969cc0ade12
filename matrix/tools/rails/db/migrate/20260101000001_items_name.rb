class ItemsName < ActiveRecord::Migration[6.1]
  disable_ddl_transaction!

  def change
    add_index :rails_items, :name, name: "rails_items_name", algorithm: :concurrently
  end
end
