class Items < ActiveRecord::Migration[6.1]
  def change
    create_table :rails_items do |t|
      t.text :name
    end
    add_column :pgbench_accounts, :rails_note, :text, default: "", null: false
  end
end
